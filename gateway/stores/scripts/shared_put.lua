-- Share an answer, and make room for it (valkey_shared.py). KEYS: the resource, the index of its
-- bucket by last use, the sizes of its resources ('' is their sum). ARGV: the field, the names that
-- select it ('': none), the data, for how many milliseconds, how many bytes the bucket may hold, how
-- many fields a resource may have, and until when by the server's clock it may be done. The reply:
-- the server's time, and whether it was done.

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local order = time[1] * 1000000 + time[2]
if now > tonumber(ARGV[7]) then return {now, 0} end

local function drop(key)
  local size = tonumber(redis.call('HGET', KEYS[3], key) or 0)
  redis.call('DEL', key)
  redis.call('ZREM', KEYS[2], key)
  redis.call('HDEL', KEYS[3], key)
  if size > 0 then redis.call('HINCRBY', KEYS[3], '', -size) end
end

local held = redis.call('HLEN', KEYS[1])
if held == 0 or held >= tonumber(ARGV[6]) then drop(KEYS[1]) end
local grown = #ARGV[3] - redis.call('HSTRLEN', KEYS[1], ARGV[1])
if redis.call('HEXISTS', KEYS[1], ARGV[1]) == 0 then grown = grown + 300 end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[3], 't' .. ARGV[1], string.format('%d', now))
if ARGV[2] ~= '' then redis.call('HSET', KEYS[1], 'n' .. ARGV[2], '') end
if redis.call('PTTL', KEYS[1]) < tonumber(ARGV[4]) then redis.call('PEXPIRE', KEYS[1], ARGV[4]) end
redis.call('HINCRBY', KEYS[3], KEYS[1], grown)
redis.call('HINCRBY', KEYS[3], '', grown)
redis.call('ZADD', KEYS[2], order, KEYS[1])

for _, key in ipairs(redis.call('ZRANGE', KEYS[2], 0, 1)) do -- what ran out goes by and by
  if redis.call('EXISTS', key) == 0 then drop(key) end
end
while tonumber(redis.call('HGET', KEYS[3], '')) > tonumber(ARGV[5]) do
  local oldest = redis.call('ZRANGE', KEYS[2], 0, 0)[1]
  if not oldest then break end
  drop(oldest)
end
return {now, 1}
