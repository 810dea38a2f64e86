-- What every script begins with. A bucket's keys share one hash tag, so that a script is atomic on
-- a cluster too. Each reply begins with a head: epoch, sequence, ledger time, why absence is not
-- trusted ('' where it is), how much this hold has written here (-1: no such hold), and the mark of
-- the last of that. Who asks says under which hold, the mark of this call, and what it knows of each
-- bucket. Where that is more than the bucket has, the store forgot: then nothing is done ('forgot'),
-- since a write that nobody hears of would make up for one that is gone.

if redis.replicate_commands then redis.replicate_commands() end -- before Redis 7: effects, not text

local SLACK_S = 1
local MARK, MARKS = 8, 16 -- the length of a mark, and how many are kept: so many may be in the air

local function exact(number)
  return string.format('%.17g', number)
end

-- Ledger time. The server's clock may jump: what it jumps back is added, and what it jumps ahead of
-- `elapsed` (the caller's own monotonic clock since it last wrote here) is taken off again. A call
-- that took long to arrive looks like a jump too, and leases last that much longer, which is safe.
local function ledger_time(bucket, given, elapsed)
  if given ~= '' then return tonumber(given) end
  local clock = redis.call('TIME')
  local now = tonumber(clock[1]) + tonumber(clock[2]) / 1000000 + bucket.offset
  if now < bucket.last then
    bucket.offset = bucket.offset + bucket.last - now
    return bucket.last
  end
  local latest = elapsed ~= '' and bucket.last + tonumber(elapsed)
  if latest and bucket.last > 0 and now > latest + SLACK_S then
    bucket.offset = bucket.offset - (now - latest)
    return latest
  end
  return now
end

-- Writes are lost from the end: where the last that the caller was acknowledged is still what it
-- was, so is all before it.
local function behind(bucket, known)
  local epoch, seq, wrote, mark = string.match(known or '', '^(%S+) (%d+) (%d+) (%S+)$')
  if not epoch then return false end
  if epoch ~= '-' and epoch ~= bucket.epoch then return true end
  if bucket.seq < tonumber(seq) then return true end
  if bucket.wrote < 0 or wrote == '0' then return false end -- whether it may be gone the caller knows
  local since = bucket.wrote - tonumber(wrote)
  if since < 0 then return true end
  local from = #bucket.marks - MARK * (since + 1)
  return from >= 0 and string.sub(bucket.marks, from + 1, from + MARK) ~= mark
end

-- `asker`: the hold and the mark of the call, then for each bucket a line: epoch ('-': not known),
-- sequence, how much the hold wrote and the mark of the last of that ('-': none). A bucket that is
-- `behind` is not to be touched.
local lines
local function open(meta, given, elapsed, asker, index)
  if not lines then
    lines = {}
    for line in string.gmatch(asker, '[^\n]+') do lines[#lines + 1] = line end
  end
  local holder, mark = string.match(lines[1], '^(%S*) (%S+)$')
  local kept = redis.call('HMGET', meta, 'epoch', 'seq', 'number', 'time', 'offset', 'forgot',
    'u:' .. holder, 'n:' .. holder, 'w:' .. holder)
  local bucket = {
    meta = meta, holder = holder, mark = mark,
    epoch = kept[1] or '', seq = tonumber(kept[2] or 0), number = tonumber(kept[3] or 0),
    last = tonumber(kept[4] or 0), offset = tonumber(kept[5] or 0), forgot = kept[6] or '',
    till = tonumber(kept[7] or nil), wrote = tonumber(kept[8] or -1), marks = kept[9] or '',
  }
  bucket.now = ledger_time(bucket, given, elapsed)
  bucket.behind = behind(bucket, lines[(index or 1) + 1])
  return bucket
end

local function alive(bucket)
  return bucket.till and bucket.till > bucket.now
end

-- The last write of every script that changes anything.
local function changed(bucket)
  bucket.seq = bucket.seq + 1
  redis.call('HSET', bucket.meta, 'seq', bucket.seq, 'number', exact(bucket.number),
    'time', exact(bucket.now), 'offset', exact(bucket.offset))
  if bucket.till then
    bucket.wrote = math.max(bucket.wrote, 0) + 1
    bucket.marks = string.sub(bucket.marks .. bucket.mark, -MARK * MARKS)
    redis.call('HSET', bucket.meta, 'n:' .. bucket.holder, bucket.wrote,
      'w:' .. bucket.holder, bucket.marks)
  end
end

-- A write without a change: acknowledgements count from a connection's own last write, and what is
-- told of another's write must be as durable as that.
local function touch(bucket)
  redis.call('HSET', bucket.meta, 'touched', '')
end

local function head(bucket)
  return {bucket.epoch, bucket.seq, exact(bucket.now), bucket.forgot, bucket.wrote,
    string.sub(bucket.marks, -MARK)}
end
