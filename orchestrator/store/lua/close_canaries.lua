-- Ask nobody any more about canaries that came in before a time: those that judged them have been examined, and
-- they end as one that all have judged. ARGV: that time, verifiers on chain, most events.
local old = redis.call('ZRANGEBYSCORE', p .. 'canary_groups', '-inf', ARGV[1], 'LIMIT', 0, 100)
for _, digest in ipairs(old) do
  if redis.call('HGET', group(digest), 'state') == 'replay' then
    close_canary(digest)
    open_ballots(ARGV[3], digest, 'accepted')
    drop_places(digest, ARGV[2])
  end
  redis.call('ZREM', p .. 'canary_groups', digest)
end
