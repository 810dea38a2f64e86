-- What was appended after a position. KEYS: the log, its counter. ARGV: the position (-1: only where
-- the log ends), and the newest entry as it was there ('': there was none). The reply: the newest
-- position, the newest entry's name, whether the log is still the one that was known, and the
-- entries after the position.

local last = tonumber(redis.call('GET', KEYS[2]) or 0)
local newest = redis.call('ZRANGE', KEYS[1], -1, -1)[1] or ''
local name = string.match(newest, '^%d+\n([^\n]*)\n') or ''
local position = tonumber(ARGV[1])
if position < 0 or (position == last and name == ARGV[2]) then return {last, name, 1, {}} end
local there = redis.call('ZRANGEBYSCORE', KEYS[1], position, position)[1] or ''
local known = string.match(there, '^%d+\n([^\n]*)\n') or ''
local oldest = tonumber(redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')[2] or 0)
local many = last - position > 4096 -- a script can't return many more; all is forgotten instead
if last < position or known ~= ARGV[2] or (position == 0 and oldest > 1) or many then
  return {last, name, 0, {}}
end
return {last, name, 1, redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. ARGV[1], '+inf')}
