-- Returns {the server's id, a new one at each of its starts; the one that the run was restored in, or ''}.
return {life(), redis.call('HGET', p .. 'state', 'life') or ''}
