-- A worker was looked at. ARGV: worker, at which number of accepted groups it was due: it may be due again by now.
local due = redis.call('ZSCORE', p .. 'looks', ARGV[1])
if due and tonumber(due) <= tonumber(ARGV[2]) then redis.call('ZREM', p .. 'looks', ARGV[1]) end
