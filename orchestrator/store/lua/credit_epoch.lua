-- An epoch is final, and its accounts are credited. Safe to repeat.
-- ARGV: epoch, record JSON, most events, event body.
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
