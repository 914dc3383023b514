-- Take tokens from the bucket KEYS[2]. ARGV: rate, burst, now, cost, whether it is taken in any case ('1').
return bucket(KEYS[2], tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4]), ARGV[5] == '1')
