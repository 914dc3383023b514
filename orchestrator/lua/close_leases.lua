-- Free leases that ended without work. ARGV: worker or '', then nonces; with '' they are expired ones:
-- ARGV[2] is the latest deadline to free and ARGV[3] the most leases. Returns the ADDR:nonce freed.
local freed = {}
if ARGV[1] == '' then
  for _, member in ipairs(redis.call('ZRANGEBYSCORE', p .. 'open', '-inf', ARGV[2],
      'LIMIT', 0, ARGV[3])) do
    local worker, nonce = string.match(member, '^(.*):(%d+)$')
    close_lease(worker, nonce, true)
    freed[#freed + 1] = member
  end
  return freed
end
for i = 2, #ARGV do
  if close_lease(ARGV[1], ARGV[i], false) == 1 then
    redis.call('ZREM', p .. 'undecided:' .. ARGV[1], ARGV[i])
    freed[#freed + 1] = ARGV[1] .. ':' .. ARGV[i]
  end
end
return freed
