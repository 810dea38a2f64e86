-- What was appended after a position. KEYS: the log, its counter, since when caches read it, how
-- often it was asked. ARGV: the position (-1: only where the log ends; -2: and what it has before),
-- the newest entry's name as it was there ('': there was none), '1' where a cache asks, '1' where
-- the question is to be copied to the replicas. The reply: the newest position, the newest entry's
-- name, whether the log is still the one that was known, the entries after the position, which
-- history this is (of the server, and since when caches read the log), and for how many
-- milliseconds they have (-1: none does).

local told = redis.call('INFO', 'replication')
if not string.find(told, 'role:master', 1, true) then
  return redis.error_reply('READONLY this is no master')
end
local history = string.match(told, 'master_replid:(%w+)') or ''
if ARGV[4] ~= '' then redis.call('INCR', KEYS[4]) end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local began = tonumber(redis.call('GET', KEYS[3]) or nil)
if ARGV[3] ~= '' and (not began or began > now) then
  redis.call('SET', KEYS[3], string.format('%d', now))
  began = now
end
local read_for = began and math.max(0, now - began) or -1
history = history .. '.' .. string.format('%d', began or 0)

local last = tonumber(redis.call('GET', KEYS[2]) or 0)
local newest = redis.call('ZRANGE', KEYS[1], -1, -1)[1] or ''
local name = string.match(newest, '^%d+\n([^\n]*)\n') or ''
local position = tonumber(ARGV[1])
if position == -2 then
  return {last, name, 1, redis.call('ZRANGE', KEYS[1], -4000, -1), history, read_for}
end
if position < 0 or (position == last and name == ARGV[2]) then
  return {last, name, 1, {}, history, read_for}
end
local there = redis.call('ZRANGEBYSCORE', KEYS[1], position, position)[1] or ''
local known = string.match(there, '^%d+\n([^\n]*)\n') or ''
local oldest = tonumber(redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')[2] or 0)
local many = last - position > 4096 -- a script can't return many more; all is forgotten instead
if last < position or known ~= ARGV[2] or (position == 0 and oldest > 1) or many then
  return {last, name, 0, {}, history, read_for}
end
local found = redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. ARGV[1], '+inf')
return {last, name, 1, found, history, read_for}
