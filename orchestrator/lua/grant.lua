-- Reserve nonces for new leases: pacing, budget and the worker's own limit in one step.
-- ARGV: worker, count, deadline, most outstanding per worker, most groups (pacing), units the escrow
-- has beyond posted epochs, most units of a group, one worker's share of the pace in millionths, units
-- the escrow has beyond final epochs.
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
local room = tonumber(ARGV[5]) - consumed
local paced = room - ready - waiting - running

-- A batch takes only a share from one worker. Who filled the pace alone would end the run: nothing
-- could be trained on, and nobody else could add what is missing.
local share = tonumber(ARGV[8])
if share < 1000000 then
  local own = redis.call('SCARD', p .. 'held:' .. worker)
  for _, digest in ipairs(redis.call('SMEMBERS', p .. 'replay:' .. worker)) do
    own = own + (redis.call('ZSCORE', p .. 'waiting', digest) and 1 or 0)
  end
  for _, candidate in ipairs(redis.call('ZRANGE', p .. 'ready', 0, -1)) do
    own = own + (string.find(candidate, worker, 1, true) and 1 or 0)
  end
  paced = math.min(paced, math.max(1, math.floor(room * share / 1000000)) - own)
end

local unsettled = tonumber(redis.call('HGET', p .. 'state', 'unsettled') or '0')
local replaying = tonumber(redis.call('HGET', p .. 'state', 'replaying') or '0')
local posted = tonumber(redis.call('HGET', p .. 'state', 'posted') or '0')
-- A voided epoch's money is in the budget again before its work is among the unsettled.
local budget = math.min(tonumber(ARGV[6]), tonumber(ARGV[9]) - posted)
local affordable = math.floor((budget - unsettled) / tonumber(ARGV[7]))
  - running - replaying
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
