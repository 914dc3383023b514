-- Reserve nonces for new leases: pacing, budget and the worker's own limit in one step, by `rules/pacing.py`.
-- ARGV: worker, count, deadline, most outstanding per worker, most groups (pacing), units the escrow
-- has beyond posted epochs, most units of a group, one worker's share of the pace in millionths, units
-- the escrow has beyond final epochs, debt of dropped leases without consequence, policy version, seconds
-- to keep its tallies, most groups without signal, the epoch whose secret the leases are drawn from.
-- Returns {outcome, first nonce, count, debt, the worker's group that a replay rejected last}; of too many leases {outcome, how many may be held, 0, debt}.
local worker, count = ARGV[1], tonumber(ARGV[2])
if is_revealed(ARGV[14]) then return {'revealed', 0, 0, 0} end
if redis.call('HGET', p .. 'state', 'life') ~= life() then return {'forgetful', 0, 0, 0} end
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

local function size(command, key) return redis.call(command, p .. key) end
local function state(name) return tonumber(redis.call('HGET', p .. 'state', name) or '0') end

-- most_leases: who owes for dropped leases may hold fewer.
local most, allowance = tonumber(ARGV[4]), tonumber(ARGV[10])
local debt = tonumber(redis.call('HGET', w, 'drop_debt') or '0')
if debt > allowance then most = math.max(1, math.floor(most * (2 * allowance - debt) / allowance)) end

-- is_idle: leases of who only drops keep no other out, and its stake is not at work.
local accepted = tonumber(redis.call('HGET', w, 'accepted_groups') or '0')
local is_idle = debt > allowance or (debt > 0 and accepted == 0)
if is_idle then redis.call('ZREM', p .. 'present', worker) end
local held = size('SCARD', 'held:' .. worker)
local free = most - held
if free < 1 then return {'too_many', most, 0, debt} end

-- paced: what can still be trained on.
local running, waiting, ready = size('ZCARD', 'open'), size('ZCARD', 'waiting'), size('ZCARD', 'ready')
local room = tonumber(ARGV[5]) - state('consumed')
local paced = room - (ready - math.min(ready, state('surplus'))) - waiting - running
if not is_idle then paced = paced + size('ZCARD', 'idle') end

-- most_flat: those without signal count until a batch is taken (`take_batch.lua`).
redis.call('HSETNX', p .. 'flat', 'since', ARGV[14])
local function flat(field) return tonumber(redis.call('HGET', p .. 'flat', field) or '0') end
local _, doublings = math.frexp(math.max(0, tonumber(ARGV[14]) - flat('since')) + 1)
local most_flat = tonumber(ARGV[13]) * doublings
paced = math.min(paced, most_flat - flat('all') - math.max(0, state('replaying') - waiting))

-- Of it, this worker's part: the same whether its groups were drawn, or it would see which were.
local share = tonumber(ARGV[8])
if share < 1000000 then
  local own, own_flat = held, flat(worker)
  for _, digest in ipairs(redis.call('SMEMBERS', p .. 'replay:' .. worker)) do
    if redis.call('ZSCORE', p .. 'waiting', digest) then own = own + 1 else own_flat = own_flat + 1 end
  end
  for _, candidate in ipairs(redis.call('ZRANGE', p .. 'ready', 0, -1)) do
    own = own + (string.find(candidate, worker, 1, true) and 1 or 0)
  end
  paced = math.min(paced, math.max(1, math.floor(room * share / 1000000)) - own)
  paced = math.min(paced, math.max(1, math.floor(most_flat * share / 1000000)) - own_flat)
end

-- units_left: what the escrow has beyond all that is committed.
local units = math.min(tonumber(ARGV[6]), tonumber(ARGV[9]) - state('posted')) - state('unsettled')
local affordable = math.floor(units / tonumber(ARGV[7])) - running - state('replaying')
if affordable < 1 then return {'no_budget', 0, 0, debt} end
count = math.min(count, free, paced, affordable)
if count < 1 then return {'paced', 0, 0, debt} end
redis.call('SADD', p .. 'workers', worker)
redis.call('HSET', w, 'leased_until', ARGV[3])
local floor = math.max(state('floor'), tonumber(redis.call('HGET', w, 'settled') or '0'))
if tonumber(redis.call('HGET', w, 'nonce') or '0') < floor then
  redis.call('HSET', w, 'nonce', string.format('%.0f', floor))
end
local last = redis.call('HINCRBY', w, 'nonce', count)
local tallies = p .. 'rewards:' .. ARGV[11]
redis.call('HINCRBY', tallies, 'open', count)
redis.call('HINCRBY', tallies, worker .. ':leased', count)
redis.call('EXPIRE', tallies, ARGV[12])
for nonce = last - count + 1, last do
  redis.call('HSET', p .. 'leased:' .. worker, nonce, ARGV[11])
  redis.call('ZADD', p .. 'open', ARGV[3], worker .. ':' .. nonce)
  if is_idle then redis.call('ZADD', p .. 'idle', ARGV[3], worker .. ':' .. nonce) end
  redis.call('SADD', p .. 'held:' .. worker, nonce)
  redis.call('ZADD', p .. 'undecided:' .. worker, nonce, nonce)
end
return {'granted', last - count + 1, count, debt, redis.call('HGET', w, 'last_rejected') or ''}
