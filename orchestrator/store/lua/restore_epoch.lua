-- A posted epoch is on chain no more, or never will be: its work is unsettled again. Safe to repeat.
-- ARGV: epoch, record JSON or '' to forget it, most events, event body.
local units = 0
for _, row in ipairs(work_of(ARGV[1])) do
  if redis.call('ZREM', p .. 'posted:' .. row[2], row[1]) == 1 then
    redis.call('ZADD', p .. 'earned:' .. row[2], row[3], row[1])
    units = units + row[4]
  end
end
redis.call('HINCRBY', p .. 'state', 'unsettled', units)
redis.call('HINCRBY', p .. 'state', 'posted', 0 - units)
if ARGV[2] == '' then
  redis.call('HDEL', p .. 'epochs', ARGV[1])
  redis.call('DEL', p .. 'work:' .. ARGV[1])
else
  redis.call('HSET', p .. 'epochs', ARGV[1], ARGV[2])
end
event(ARGV[3], 'epoch_voided', ARGV[4])
return 1
