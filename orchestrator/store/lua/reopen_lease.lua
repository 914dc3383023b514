-- A lease that was granted and forgotten is out again, until its group is taken again. Safe to repeat.
-- ARGV: lease id, worker, nonce, policy version, deadline, signed lease. Returns 1, or 0 where it has its group.
local key, worker, nonce = p .. 'lease:' .. ARGV[1], ARGV[2], ARGV[3]
if redis.call('HGET', key, 'used') then return 0 end
redis.call('HSET', key, 'worker', worker, 'nonce', nonce, 'signed', ARGV[6])
redis.call('SADD', p .. 'workers', worker)
local w = p .. 'worker:' .. worker
if tonumber(redis.call('HGET', w, 'nonce') or '0') < tonumber(nonce) then
  redis.call('HSET', w, 'nonce', nonce)
end
if redis.call('ZADD', p .. 'open', ARGV[5], worker .. ':' .. nonce) == 1 then
  local tallies = p .. 'rewards:' .. ARGV[4]
  redis.call('HINCRBY', tallies, 'open', 1)
  redis.call('HINCRBY', tallies, worker .. ':leased', 1)
  redis.call('HSET', p .. 'leased:' .. worker, nonce, ARGV[4])
  redis.call('SADD', p .. 'held:' .. worker, nonce)
  redis.call('ZADD', p .. 'undecided:' .. worker, nonce, nonce)
end
return 1
