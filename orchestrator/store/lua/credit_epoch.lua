-- An epoch is final: its accounts are what was earned. Safe to repeat.
-- ARGV: epoch, record JSON, most events, event body, then in MessagePack worker, earned, last nonce of each
-- account.
for _, account in ipairs(cmsgpack.unpack(ARGV[5])) do
  redis.call('HSET', p .. 'worker:' .. account[1], 'earned', account[2], 'settled', account[3])
  -- Under somebody else's header: what it paid of ours, or passed over, can never be paid again.
  local earned = p .. 'earned:' .. account[1]
  for _, digest in ipairs(redis.call('ZRANGEBYSCORE', earned, '-inf', account[3])) do
    redis.call('ZREM', earned, digest)
    redis.call('HINCRBY', p .. 'state', 'unsettled',
      -tonumber(redis.call('HGET', p .. 'group:' .. digest, 'units')))
  end
end
local units = 0
for _, row in ipairs(work_of(ARGV[1])) do
  if redis.call('ZREM', p .. 'posted:' .. row[2], row[1]) == 1 then
    units = units + row[4]
  end
end
redis.call('HINCRBY', p .. 'state', 'posted', 0 - units)
redis.call('DEL', p .. 'work:' .. ARGV[1])
redis.call('HSET', p .. 'epochs', ARGV[1], ARGV[2])
redis.call('HSET', p .. 'state', 'final', ARGV[1] + 1)
event(ARGV[3], 'epoch_final', ARGV[4])
return 1
