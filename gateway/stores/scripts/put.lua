-- Write one order where its guard still stands: the only way an order is made or changed.
--
-- KEYS  order meta held due age dead answers ends id attach top received..failed (7)
-- ARGV  1 now 2 elapsed 3 asker 4 op 5 ref 6 order id
--       7 'alive' where the holder must be, 'trusting' where it was decided without knowing that
--       the store forgot  8 guard: absent | version | token  9, 10 its values
--       11 attach: '' no index | 'none' | the expected newest  12 the newest one's version
--       13 status before (0: none) 14 after 15 claimed_at ('' unchanged)
--       16 custody: keep | held | due | none 17 due in s
--       18 retention: '' unchanged | 'off' | 'on' 19 answer until 20 entry until
--       21 change of disputed 22 the token after 23 how many fields to drop, their names, then
--       fields and values to set
-- Says: forgot | unheard (what was said here: that the store forgot) | ok | echo (this very write
-- was made before) | changed, with what is there | attached, with the newest one's ref | lapsed.

local order, meta, held, due, age, dead, answers, ends, id_key, attach, top =
  KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6], KEYS[7], KEYS[8], KEYS[9], KEYS[10],
  KEYS[11]
local STATUSES = 11
local op, ref = ARGV[4], ARGV[5]
local bucket = open(meta, ARGV[1], ARGV[2], ARGV[3])
local holder = bucket.holder
if bucket.behind then return {head(bucket), 'forgot'} end
if bucket.epoch == '' then return {head(bucket), 'void'} end

local kept = redis.call('HMGET', order, 'op', 'v', 'st', 'tk', 'h', 'n')
local exists = kept[2]

if exists and kept[1] == op then
  redis.call('HSET', order, 'op', op) -- a write, so that its acknowledgement can be waited for
  return {head(bucket), 'echo'}
end
if bucket.forgot ~= '' and string.find(ARGV[7], 'trusting', 1, true) then
  return {head(bucket), 'unheard'}
end

-- Within one lease an order may stand again as it stood: what this writer sent before its latest
-- write, over a link that hung meanwhile, is no write of now.
local function overtaken()
  local writer, number = string.match(op, '^(.*):(%d+)$')
  local latest, reached = string.match(kept[1] or '', '^(.*):(%d+)$')
  return writer and writer == latest and tonumber(number) < tonumber(reached)
end

local guard = ARGV[8]
local stands
if guard == 'absent' then
  stands = not exists
elseif guard == 'version' then
  stands = exists == ARGV[9]
else -- a lease: nobody else may hold it, even where a token was given twice by a store that forgot
  stands = exists and kept[3] == ARGV[13] and kept[4] == ARGV[9]
    and (kept[5] == '' or kept[5] == ARGV[10]) and not overtaken()
end
if not stands then
  touch(bucket)
  if guard == 'token' then return {head(bucket), 'changed'} end
  return {head(bucket), 'changed', redis.call('HGETALL', order)}
end

if ARGV[11] ~= '' then
  local newest = redis.call('ZREVRANGE', attach, 0, 0)[1]
  local expected = ARGV[11] ~= 'none' and ARGV[11] or nil
  if newest ~= expected or (newest and redis.call('HGET', top, 'v') ~= ARGV[12]) then
    return {head(bucket), 'attached', newest or ''}
  end
end
if string.find(ARGV[7], 'alive', 1, true) and not alive(bucket) then
  return {head(bucket), 'lapsed'}
end

local number = tonumber(kept[6])
if not exists then
  if redis.call('EXISTS', id_key) == 1 then return {head(bucket), 'taken'} end
  number = math.max(bucket.number + 1, math.floor(bucket.now * 1000000))
  bucket.number = number
  redis.call('SET', id_key, ref)
  redis.call('HINCRBY', meta, 'made', 1)
  redis.call('HSET', order, 'n', exact(number), 'h', '', 'id', ARGV[6])
end
local member = string.format('%016.0f', number) .. ':' .. ref

local drops = tonumber(ARGV[23])
if drops > 0 then redis.call('HDEL', order, unpack(ARGV, 24, 23 + drops)) end
redis.call('HSET', order, 'op', op, 'st', ARGV[14], 'tk', ARGV[22], unpack(ARGV, 24 + drops))
redis.call('HINCRBY', order, 'v', 1)

local before, after = tonumber(ARGV[13]), tonumber(ARGV[14])
if before ~= after then
  if before > 0 then
    redis.call('ZREM', KEYS[STATUSES + before], member)
    redis.call('HINCRBY', meta, 's' .. before, -1)
  end
  redis.call('ZADD', KEYS[STATUSES + after], exact(number), member)
  redis.call('HINCRBY', meta, 's' .. after, 1)
end
if ARGV[21] ~= '0' then redis.call('HINCRBY', meta, 'disputed', ARGV[21]) end

-- received, dispatched and in_doubt are pending, the fourth is a dead letter
local function class(status) return status == 0 and 0 or status <= 3 and 1 or status == 4 and 2 or 0 end
local was, is = class(before), class(after)
if ARGV[15] ~= '' then redis.call('HSET', order, 'ca', ARGV[15]) end
if was ~= is or (ARGV[15] ~= '' and is > 0) then
  if was == 1 then redis.call('ZREM', age, member) end
  if was == 2 then redis.call('ZREM', dead, member) end
  if is > 0 then
    redis.call('ZADD', is == 1 and age or dead, redis.call('HGET', order, 'ca'), member)
  end
end
if ARGV[15] ~= '' and attach ~= order then
  redis.call('ZADD', attach, ARGV[15], member)
end

local custody = ARGV[16]
if custody ~= 'keep' then
  redis.call('HDEL', held, member)
  redis.call('ZREM', due, member)
  if custody == 'held' then
    redis.call('HSET', order, 'h', holder)
    redis.call('HSET', held, member, holder)
  else
    redis.call('HSET', order, 'h', '')
    if custody == 'due' then
      local at = exact(bucket.now + tonumber(ARGV[17]))
      redis.call('HSET', order, 'du', at)
      redis.call('ZADD', due, at, member)
    end
  end
end

if ARGV[18] ~= '' then
  redis.call('ZREM', answers, member)
  redis.call('ZREM', ends, member)
  if ARGV[18] == 'on' then
    redis.call('HSET', order, 'eu', ARGV[20])
    if ARGV[19] ~= '' then
      redis.call('ZADD', answers, ARGV[19], member)
    else
      redis.call('ZADD', ends, ARGV[20], member)
    end
  end
end
changed(bucket)
redis.call('PUBLISH', string.match(meta, '^{(.*):%d+}') .. ':changed:' .. ARGV[6], '')
return {head(bucket), 'ok', redis.call('HGET', order, 'v')}
