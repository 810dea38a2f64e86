-- Say in each bucket given that absence proves nothing ('': that it does again), and why. What was
-- said first stays.   KEYS meta, for each bucket   ARGV why
for index = 1, #KEYS do
  if ARGV[1] == '' then
    redis.call('HDEL', KEYS[index], 'forgot')
  else
    redis.call('HSETNX', KEYS[index], 'forgot', ARGV[1])
  end
end
return #KEYS
