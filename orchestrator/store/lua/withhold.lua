-- Exclude a worker that keeps groups back: no lease, no training on what it gave. What was accepted, or waits
-- for its replay, stays owed: nothing of it was false.
-- ARGV: worker, reason, most events, event body. Returns 1 where it was not excluded before.
local worker = ARGV[1]
local w = p .. 'worker:' .. worker
if redis.call('HGET', w, 'excluded') == '1' then
  return 0
end
redis.call('HSET', w, 'excluded', '1', 'excluded_for', ARGV[2])
for _, nonce in ipairs(redis.call('SMEMBERS', p .. 'held:' .. worker)) do
  close_lease(worker, nonce, true)
  ended(worker, nonce)
end
for _, digest in ipairs(redis.call('SMEMBERS', p .. 'replay:' .. worker)) do
  redis.call('HSET', p .. 'group:' .. digest, 'is_trainable', '0')
  redis.call('ZREM', p .. 'waiting', digest)
end
for _, digest in ipairs(redis.call('ZRANGE', p .. 'earned:' .. worker, 0, -1)) do
  redis.call('ZREM', p .. 'ready', redis.call('HGET', p .. 'group:' .. digest, 'candidate'))
end
event(ARGV[3], 'exclusion', ARGV[4])
return 1
