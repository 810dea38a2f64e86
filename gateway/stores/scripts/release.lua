-- Give an order back where it is still held under this lease.
-- KEYS order meta held due   ARGV now elapsed asker ref token lease-holder due-in-s
local bucket = open(KEYS[2], ARGV[1], ARGV[2], ARGV[3])
if bucket.behind then return {head(bucket), 'forgot'} end
local kept = redis.call('HMGET', KEYS[1], 'tk', 'h', 'n')
if kept[1] ~= ARGV[5] or kept[2] ~= ARGV[6] then return {head(bucket), 'changed'} end
local member = string.format('%016.0f', tonumber(kept[3])) .. ':' .. ARGV[4]
local at = exact(bucket.now + tonumber(ARGV[7]))
redis.call('HSET', KEYS[1], 'h', '', 'du', at)
redis.call('HINCRBY', KEYS[1], 'v', 1)
redis.call('HDEL', KEYS[3], member)
redis.call('ZADD', KEYS[4], at, member)
changed(bucket)
return {head(bucket), 'ok'}
