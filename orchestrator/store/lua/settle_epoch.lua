-- An epoch was posted: its work is committed on chain and waits for finality. Safe to repeat.
-- ARGV: epoch, record JSON, most events, event body.
redis.call('HSET', p .. 'epochs', ARGV[1], ARGV[2])
local units = 0
for _, row in ipairs(work_of(ARGV[1])) do
  if redis.call('ZREM', p .. 'earned:' .. row[2], row[1]) == 1 then
    redis.call('ZADD', p .. 'posted:' .. row[2], row[3], row[1])
    units = units + row[4]
  end
end
redis.call('HINCRBY', p .. 'state', 'unsettled', 0 - units)
redis.call('HINCRBY', p .. 'state', 'posted', units)
event(ARGV[3], 'epoch_posted', ARGV[4])
return 1
