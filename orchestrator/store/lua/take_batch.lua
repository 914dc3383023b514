-- Fix the groups of one step. ARGV: step, batch JSON, most events, event body, then the chosen
-- candidates. Returns {'same', JSON} where the step has its batch, 'gone' where a candidate left.
local known = redis.call('HGET', p .. 'batches', ARGV[1])
if known then
  return {'same', known}
end
for i = 5, #ARGV do
  if not redis.call('ZSCORE', p .. 'ready', ARGV[i]) then
    return {'gone', ''}
  end
end
for i = 5, #ARGV do
  redis.call('ZREM', p .. 'ready', ARGV[i])
end
redis.call('HINCRBY', p .. 'state', 'consumed', #ARGV - 4)
redis.call('HSET', p .. 'state', 'surplus', 0)
redis.call('DEL', p .. 'flat')
redis.call('HSET', p .. 'batches', ARGV[1], ARGV[2])
event(ARGV[3], 'batch', ARGV[4])
return {'taken', ARGV[2]}
