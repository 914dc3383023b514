-- Spend a batch: its groups were trained on in a durable step. ARGV: step, then digests.
local acked = tonumber(redis.call('HGET', p .. 'state', 'acked') or '-1')
redis.call('HSET', p .. 'state', 'acked', math.max(acked, tonumber(ARGV[1])))
for i = 2, #ARGV do
  redis.call('HSET', p .. 'group:' .. ARGV[i], 'trained_in', ARGV[1])
end
return 1
