-- Write what was decided, only if what it was decided from is still so. ARGV: the reads, the digest of what they
-- answered, the writes (steps below by name, commands on keys after the prefix); most events. Returns 1 when done.
if redis.sha1hex(cmsgpack.pack(answers_of(ARGV[1]))) ~= ARGV[2] then return 0 end
local max_events = ARGV[4]

local steps = {
  -- From `standing.lua`: a group's change of state, the end of its vote, and a worker's end.
  accept = accept,
  reject = reject,
  exclude = function(...) exclude(max_events, ...) end,
  drop_places = drop_places,
  show_ballots = function(digest, only) show_ballots(max_events, digest, only) end,
  close_canary = close_canary,
  -- Append to the run's event stream.
  announce = function(kind, body) event(max_events, kind, body) end,
}

local function slot_of(digest, verifier)
  local slots, slot = redis.call('HGETALL', p .. 'slots:' .. digest), nil
  for i = 1, #slots, 2 do
    if slots[i + 1] == verifier then slot = slots[i] end
  end
  return slot
end

-- The voter's place in the queue of replays is not offered to others before `at`.
function steps.keep_place(digest, verifier, at)
  local slot = slot_of(digest, verifier)
  if slot then redis.call('ZADD', p .. 'audits', 'XX', at, digest .. ':' .. slot) end
end

-- The voter's place in the queue of replays is gone, or offered again from `at` on.
function steps.free_place(digest, verifier, at)
  local slot = slot_of(digest, verifier)
  if not slot then return end
  redis.call('HDEL', p .. 'slots:' .. digest, slot)
  if at == '' then
    redis.call('ZREM', p .. 'audits', digest .. ':' .. slot)
  else
    redis.call('ZADD', p .. 'audits', at, digest .. ':' .. slot)
  end
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

-- A worker's pause: its record begins again, so that all it sends is replayed as a newcomer's is.
function steps.pause(worker, detail)
  local w = p .. 'worker:' .. worker
  redis.call('HSET', w, 'paused', detail, 'record_from', redis.call('HGET', w, 'accepted_groups') or '0')
  redis.call('DEL', p .. 'alarms:' .. worker)
end

for _, write in ipairs(cmsgpack.unpack(ARGV[3])) do
  local step = steps[write[1]]
  if step then step(unpack(write, 2)) else redis.call(write[1], p .. write[2], unpack(write, 3)) end
end
return 1
