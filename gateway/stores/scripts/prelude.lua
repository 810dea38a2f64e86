-- What every script begins with. A bucket's keys share one hash tag, so that a script is atomic on
-- a cluster too. Each reply begins with a head: epoch, sequence, ledger time, why absence is not
-- trusted ('' where it is), and how much this hold has written here (-1: no such hold).

if redis.replicate_commands then redis.replicate_commands() end -- before Redis 7: effects, not text

local SLACK_S = 1

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

local function open(meta, given, elapsed, holder)
  local kept = redis.call('HMGET', meta, 'epoch', 'seq', 'number', 'time', 'offset', 'forgot')
  local bucket = {
    meta = meta, holder = holder,
    epoch = kept[1] or '', seq = tonumber(kept[2] or 0), number = tonumber(kept[3] or 0),
    last = tonumber(kept[4] or 0), offset = tonumber(kept[5] or 0), forgot = kept[6] or '',
    wrote = -1,
  }
  bucket.now = ledger_time(bucket, given, elapsed)
  return bucket
end

local function alive(bucket)
  local till = redis.call('HGET', bucket.meta, 'u:' .. bucket.holder)
  return till and tonumber(till) > bucket.now
end

-- The last write of every script that changes anything.
local function changed(bucket)
  bucket.seq = bucket.seq + 1
  redis.call('HSET', bucket.meta, 'seq', bucket.seq, 'number', exact(bucket.number),
    'time', exact(bucket.now), 'offset', exact(bucket.offset))
  if redis.call('HEXISTS', bucket.meta, 'u:' .. bucket.holder) == 1 then
    bucket.wrote = redis.call('HINCRBY', bucket.meta, 'n:' .. bucket.holder, 1)
  end
end

-- A write without a change: acknowledgements count from a connection's own last write, and what is
-- told of another's write must be as durable as that.
local function touch(bucket)
  redis.call('HSET', bucket.meta, 'touched', '')
end

local function head(bucket)
  if bucket.wrote < 0 then
    bucket.wrote = tonumber(redis.call('HGET', bucket.meta, 'n:' .. bucket.holder) or -1)
  end
  return {bucket.epoch, bucket.seq, exact(bucket.now), bucket.forgot, bucket.wrote}
end
