-- KEYS order meta [attach]   ARGV now elapsed asker 'told' where a client is told of it
-- The order as it is ([] where there is none) and the newest of an attach index ('' none).
local bucket = open(KEYS[2], ARGV[1], ARGV[2], ARGV[3])
if bucket.behind then return {head(bucket), 'forgot'} end
if ARGV[4] == 'told' then touch(bucket) end
local newest = KEYS[3] and redis.call('ZREVRANGE', KEYS[3], 0, 0)[1] or ''
return {head(bucket), redis.call('HGETALL', KEYS[1]), newest}
