-- Reserve nonces for new leases: pacing, budget and the worker's own limit in one step.
-- ARGV: worker, count, deadline, most outstanding per worker, most groups (pacing), units the escrow
-- has beyond posted epochs, most units of a group, one worker's share of the pace in millionths, units
-- the escrow has beyond final epochs, debt of dropped leases without consequence, policy version, seconds
-- to keep its tallies.
-- Returns {outcome, first nonce, count, debt, the worker's group that a replay rejected last}; of too many leases {outcome, how many may be held, 0, debt}.
local worker, count = ARGV[1], tonumber(ARGV[2])
local w = p .. 'worker:' .. worker
if redis.call('HGET', w, 'excluded') == '1' then
  redis.call('ZREM', p .. 'present', worker)
  return {'excluded', 0, 0, redis.call('HGET', w, 'excluded_for') or ''}
end
local paused = redis.call('HGET', w, 'paused')
if paused and paused ~= '' then
  redis.call('ZREM', p .. 'present', worker)
  return {'paused', 0, 0, paused}
end
-- A worker that drops too many may hold fewer (`protocol/checks/drops.py`).
local most, allowance = tonumber(ARGV[4]), tonumber(ARGV[10])
local debt = tonumber(redis.call('HGET', w, 'drop_debt') or '0')
if debt > allowance then
  most = math.max(1, math.floor(most * (2 * allowance - debt) / allowance))
end
local free = most - redis.call('SCARD', p .. 'held:' .. worker)
if free < 1 then
  return {'too_many', most, 0, debt}
end
local running = redis.call('ZCARD', p .. 'open')
local waiting = redis.call('ZCARD', p .. 'waiting')
local ready = redis.call('ZCARD', p .. 'ready')
local consumed = tonumber(redis.call('HGET', p .. 'state', 'consumed') or '0')
local room = tonumber(ARGV[5]) - consumed
-- Groups that no batch can take yet must not keep out those that it lacks.
local surplus = math.min(ready, tonumber(redis.call('HGET', p .. 'state', 'surplus') or '0'))
local paced = room - (ready - surplus) - waiting - running

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
  return {'no_budget', 0, 0, debt}
end
count = math.min(count, free, paced, affordable)
if count < 1 then
  return {'paced', 0, 0, debt}
end
redis.call('SADD', p .. 'workers', worker)
local last = redis.call('HINCRBY', w, 'nonce', count)
local tallies = p .. 'rewards:' .. ARGV[11]
redis.call('HINCRBY', tallies, 'open', count)
redis.call('HINCRBY', tallies, worker .. ':leased', count)
redis.call('EXPIRE', tallies, ARGV[12])
for nonce = last - count + 1, last do
  redis.call('HSET', p .. 'leased:' .. worker, nonce, ARGV[11])
  redis.call('ZADD', p .. 'open', ARGV[3], worker .. ':' .. nonce)
  redis.call('SADD', p .. 'held:' .. worker, nonce)
  redis.call('ZADD', p .. 'undecided:' .. worker, nonce, nonce)
end
return {'granted', last - count + 1, count, debt, redis.call('HGET', w, 'last_rejected') or ''}
