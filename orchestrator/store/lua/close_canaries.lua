-- Ask nobody any more about canaries that came in before a time: those that judged them have been examined.
-- ARGV: that time, verifiers on chain. Returns how many.
local old = redis.call('ZRANGEBYSCORE', p .. 'canary_groups', '-inf', ARGV[1], 'LIMIT', 0, 100)
for _, digest in ipairs(old) do
  local group = p .. 'group:' .. digest
  local g = redis.call('HMGET', group, 'worker', 'nonce', 'state', 'num_slots')
  if g[3] == 'replay' then
    decided(digest, g[1], g[2])
    redis.call('HSET', group, 'state', 'accepted')
    for slot = 1, tonumber(g[4] or ARGV[2]) do
      redis.call('ZREM', p .. 'audits', digest .. ':' .. slot)
    end
    redis.call('DEL', p .. 'ballots:' .. digest)
  end
  redis.call('ZREM', p .. 'canary_groups', digest)
end
return #old
