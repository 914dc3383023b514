-- Reserve nonces for new leases: pacing, budget and the worker's own limit in one step.
-- ARGV: worker, count, deadline, most outstanding per worker, most groups (pacing), affordable groups.
-- Returns {outcome, first nonce, count}.
local worker, count = ARGV[1], tonumber(ARGV[2])
local w = p .. 'worker:' .. worker
if redis.call('HGET', w, 'excluded') == '1' then
  return {'excluded', 0, 0}
end
local free = tonumber(ARGV[4]) - redis.call('SCARD', p .. 'held:' .. worker)
if free < 1 then
  return {'too_many', 0, 0}
end
local running = redis.call('ZCARD', p .. 'open')
local waiting = redis.call('ZCARD', p .. 'waiting')
local ready = redis.call('ZCARD', p .. 'ready')
local consumed = tonumber(redis.call('HGET', p .. 'state', 'consumed') or '0')
local paced = tonumber(ARGV[5]) - consumed - ready - waiting - running
local affordable = tonumber(ARGV[6]) - running - waiting
if affordable < 1 then
  return {'no_budget', 0, 0}
end
count = math.min(count, free, paced, affordable)
if count < 1 then
  return {'paced', 0, 0}
end
redis.call('SADD', p .. 'workers', worker)
local last = redis.call('HINCRBY', w, 'nonce', count)
for nonce = last - count + 1, last do
  redis.call('ZADD', p .. 'open', ARGV[3], worker .. ':' .. nonce)
  redis.call('SADD', p .. 'held:' .. worker, nonce)
  redis.call('ZADD', p .. 'undecided:' .. worker, nonce, nonce)
end
return {'granted', last - count + 1, count}
