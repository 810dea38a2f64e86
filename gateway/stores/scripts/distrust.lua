-- Say in each bucket given that absence proves nothing ('': that it does again), since when and why.
-- The latest time counts: what was written before it may be older than it looks.
-- KEYS meta, for each bucket   ARGV what is said (doubting.Said), which begins with its time
local function since(said)
  return tonumber(string.match(said or '', '^%[([^,]+),')) or -1
end
for index = 1, #KEYS do
  if ARGV[1] == '' then
    redis.call('HDEL', KEYS[index], 'forgot')
  elseif since(ARGV[1]) > since(redis.call('HGET', KEYS[index], 'forgot') or '') then
    redis.call('HSET', KEYS[index], 'forgot', ARGV[1])
  end
end
return #KEYS
