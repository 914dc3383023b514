-- What workers have earned by the accounts of a final epoch. Safe to repeat. ARGV: in MessagePack worker, earned,
-- last nonce of each.
for _, account in ipairs(cmsgpack.unpack(ARGV[1])) do
  redis.call('HSET', p .. 'worker:' .. account[1], 'earned', account[2], 'settled', account[3])
  -- Under somebody else's header: what it paid of ours, or passed over, can never be paid again.
  local earned = p .. 'earned:' .. account[1]
  for _, digest in ipairs(redis.call('ZRANGEBYSCORE', earned, '-inf', account[3])) do
    redis.call('ZREM', earned, digest)
    redis.call('HINCRBY', p .. 'state', 'unsettled',
      -tonumber(redis.call('HGET', p .. 'group:' .. digest, 'units')))
  end
end
return 1
