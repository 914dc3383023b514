-- Fix a batch that was handed out and forgotten; its groups are in no other. ARGV: step, batch JSON, then digest
-- and candidate of each group. Returns 1 where it was forgotten.
if redis.call('HSETNX', p .. 'batches', ARGV[1], ARGV[2]) == 0 then return 0 end
for i = 3, #ARGV, 2 do
  redis.call('ZREM', p .. 'ready', ARGV[i + 1])
  redis.call('ZREM', p .. 'waiting', ARGV[i])
  if redis.call('EXISTS', p .. 'group:' .. ARGV[i]) == 1 then
    redis.call('HSET', p .. 'group:' .. ARGV[i], 'is_trainable', '0')
  end
  redis.call('HINCRBY', p .. 'state', 'consumed', 1)
end
return 1
