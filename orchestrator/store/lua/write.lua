-- Write what was decided, only if what it was decided from is still so. ARGV: the reads, the digest of what they
-- answered, the writes (steps below by name, commands on keys after the prefix); most events. Returns 1 when done.
if redis.sha1hex(cmsgpack.pack(answers_of(ARGV[1]))) ~= ARGV[2] then return 0 end
local max_events = ARGV[4]

local function group(digest) return p .. 'group:' .. digest end

local function num_slots(digest, num_verifiers)
  return tonumber(redis.call('HGET', group(digest), 'num_slots') or num_verifiers)
end

local steps = {
  -- From `standing.lua`: a group's change of state, and a worker's end.
  accept = function(digest, may_train) accept(digest, may_train == '1') end,
  reject = reject,
  exclude = exclude,
  -- Append to the run's event stream.
  announce = function(kind, body) event(max_events, kind, body) end,
}

-- The voter's place in the queue of replays is gone, or offered again from `at` on.
function steps.free_place(digest, verifier, at)
  local slots, slot = redis.call('HGETALL', p .. 'slots:' .. digest), nil
  for i = 1, #slots, 2 do
    if slots[i + 1] == verifier then slot = slots[i] end
  end
  if not slot then return end
  redis.call('HDEL', p .. 'slots:' .. digest, slot)
  if at == '' then
    redis.call('ZREM', p .. 'audits', digest .. ':' .. slot)
  else
    redis.call('ZADD', p .. 'audits', at, digest .. ':' .. slot)
  end
end

-- Nobody is asked about the group any more.
function steps.drop_places(digest, num_verifiers)
  for slot = 1, num_slots(digest, num_verifiers) do
    redis.call('ZREM', p .. 'audits', digest .. ':' .. slot)
  end
  redis.call('DEL', p .. 'slots:' .. digest)
end

-- Open places from `at` on until as many are open as votes are wanted.
function steps.ask(digest, num_verifiers, wanted, at)
  local last, open = num_slots(digest, num_verifiers), 0
  for slot = 1, last do
    open = open + (redis.call('ZSCORE', p .. 'audits', digest .. ':' .. slot) and 1 or 0)
  end
  for slot = last + 1, last + wanted - open do
    redis.call('ZADD', p .. 'audits', at, digest .. ':' .. slot)
  end
  redis.call('HSET', group(digest), 'num_slots', math.max(last, last + wanted - open))
end

-- Announce the sealed votes, all or those of one outcome; none waits any more.
function steps.open_ballots(digest, only)
  local votes = redis.call('HGETALL', p .. 'votes:' .. digest)
  for i = 1, #votes, 2 do
    local body = redis.call('HGET', p .. 'ballots:' .. digest, votes[i])
    if body and (only == '' or votes[i + 1] == only) then event(max_events, 'verdict', body) end
    redis.call('SREM', p .. 'votes_of:' .. votes[i], digest)
  end
  redis.call('DEL', p .. 'ballots:' .. digest)
end

-- A worker's pause: its record begins again, so that all it sends is replayed as a newcomer's is.
function steps.pause(worker, detail)
  local w = p .. 'worker:' .. worker
  redis.call('HSET', w, 'paused', detail, 'record_from', redis.call('HGET', w, 'accepted_groups') or '0')
  redis.call('DEL', p .. 'alarms:' .. worker)
end

-- A canary that all have judged looks like accepted work, and pays nobody.
function steps.close_canary(digest)
  local g = redis.call('HMGET', group(digest), 'worker', 'nonce', 'tokens')
  decided(digest, g[1], g[2])
  redis.call('HSET', group(digest), 'state', 'accepted')
  redis.call('HINCRBY', p .. 'worker:' .. g[1], 'canaries', 1)
  redis.call('HINCRBY', p .. 'worker:' .. g[1], 'canary_tokens', g[3])
  redis.call('ZREM', p .. 'canary_groups', digest)
end

for _, write in ipairs(cmsgpack.unpack(ARGV[3])) do
  local step = steps[write[1]]
  if step then step(unpack(write, 2)) else redis.call(write[1], p .. write[2], unpack(write, 3)) end
end
return 1
