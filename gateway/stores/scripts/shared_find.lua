-- Answers that processes share (valkey_shared.py). KEYS: the resource, the index of its bucket by
-- last use. ARGV: fields. The reply: the server's time, the names by which answers are selected, and
-- for each field when it was put (-1: it is not there) and its data.

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local order = time[1] * 1000000 + time[2]
if redis.call('ZSCORE', KEYS[2], KEYS[1]) then redis.call('ZADD', KEYS[2], order, KEYS[1]) end
local names = {}
for _, field in ipairs(redis.call('HKEYS', KEYS[1])) do
  if string.sub(field, 1, 1) == 'n' then names[#names + 1] = string.sub(field, 2) end
end
local answers = {}
for _, field in ipairs(ARGV) do
  local at = redis.call('HGET', KEYS[1], 't' .. field)
  answers[#answers + 1] = tonumber(at or -1)
  answers[#answers + 1] = at and redis.call('HGET', KEYS[1], field) or ''
end
return {now, names, answers}
