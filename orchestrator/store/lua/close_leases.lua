-- Free leases that ended without work. ARGV: worker or '', what a drop costs ('' where it is not the
-- worker's fault), the most debt; then nonces. With '' they are expired ones, then: the latest deadline to
-- free, the most leases, and the seconds without a round after which nobody could have submitted in time.
-- Returns the ADDR:nonce freed.
local per_drop, most_debt = tonumber(ARGV[2]), tonumber(ARGV[3])
local freed = {}

local function free(worker, nonce, is_drop)
  if close_lease(worker, nonce, false) == 0 then
    return
  end
  redis.call('ZREM', p .. 'undecided:' .. worker, nonce)
  if is_drop and per_drop then
    dropped(worker, nonce, per_drop, most_debt)
  else
    forgiven(worker, nonce)
  end
  freed[#freed + 1] = worker .. ':' .. nonce
end

if ARGV[1] ~= '' then
  for i = 4, #ARGV do
    free(ARGV[1], ARGV[i], true)
  end
  return freed
end
local latest, limit = tonumber(ARGV[4]), tonumber(ARGV[5])
local before = tonumber(redis.call('HGET', p .. 'state', 'freed_until') or '0')
local was_away = latest - before > tonumber(ARGV[6])
for _, member in ipairs(redis.call('ZRANGEBYSCORE', p .. 'open', '-inf', latest, 'LIMIT', 0, limit)) do
  local worker, nonce = string.match(member, '^(.*):(%d+)$')
  free(worker, nonce, not was_away)
end
if #freed < limit then
  redis.call('HSET', p .. 'state', 'freed_until', latest)
end
return freed
