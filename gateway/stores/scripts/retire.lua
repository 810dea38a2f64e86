-- Forget the answer of one order, or the order itself, where it has not changed since it was read.
-- KEYS order meta answers ends id attach status
-- ARGV now elapsed asker ref version what (answer | entry) status disputed
local bucket = open(KEYS[2], ARGV[1], ARGV[2], ARGV[3])
if bucket.behind then return {head(bucket), 'forgot'} end
local kept = redis.call('HMGET', KEYS[1], 'v', 'n', 'eu')
if kept[1] ~= ARGV[5] then return {head(bucket), 'changed'} end
local member = string.format('%016.0f', tonumber(kept[2])) .. ':' .. ARGV[4]
redis.call('ZREM', KEYS[3], member)
if ARGV[6] == 'answer' then
  redis.call('HDEL', KEYS[1], 'ab')
  redis.call('HINCRBY', KEYS[1], 'v', 1)
  redis.call('ZADD', KEYS[4], kept[3], member)
else
  redis.call('ZREM', KEYS[4], member)
  redis.call('ZREM', KEYS[7], member)
  if KEYS[6] ~= KEYS[1] then redis.call('ZREM', KEYS[6], member) end
  redis.call('DEL', KEYS[1], KEYS[5])
  redis.call('HINCRBY', KEYS[2], 's' .. ARGV[7], -1)
  redis.call('HINCRBY', KEYS[2], 'removed', 1)
  if ARGV[8] == '1' then redis.call('HINCRBY', KEYS[2], 'disputed', -1) end
end
changed(bucket)
return {head(bucket), 'ok'}
