-- Settles a request that has ended: what it reserved and did not use goes back, its leases end, its budgets are charged
-- with what it used. One call, whose reply nobody waits for.
--
-- KEYS     as in admit.lua, without the kept answer
-- ARGV[1]  packed doubles: requests and tokens a minute and burst of the key, of the tenant (0: none)
-- ARGV[2]  packed doubles: tokens reserved, used; money reserved, used; when it was admitted, in ms; number of leases
-- ARGV[3]  the leases' id

local key_rpm, key_tpm, key_burst, tenant_rpm, tenant_tpm, tenant_burst = struct.unpack("<dddddd", ARGV[1])
local reserved, used, money_reserved, money_used, admitted_ms, leases = struct.unpack("<dddddd", ARGV[2])
local age = floor(now_ms / MINUTE_MS) - floor(admitted_ms / MINUTE_MS)

-- `most` less what is still reserved is what the bucket would hold at least, had the real usage been known all along.
-- To give back no more than up to there keeps the bound for every window (gateway/limits/__init__.py).
local function settle_buckets(name, request_limit, token_limit, burst)
  local requests, tokens, most, this_minute, last_minute = read_buckets(name, request_limit, token_limit, burst)
  local taken = min(reserved, token_limit * burst)
  local back = taken - used
  if age <= 0 then
    this_minute, most = max(0, this_minute - taken), most - used
  elseif age == 1 then
    last_minute, most = max(0, last_minute - taken), most - used
  else -- the reservation has lapsed and counts as used; only what exceeds it is left to take
    back = min(0, back)
    most = most + back
  end
  if back > 0 then
    back = max(0, min(back, most - this_minute - last_minute - tokens))
  end
  write_buckets(name, token_limit, requests, tokens + back, most, this_minute, last_minute)
end

-- A request belongs to the day and the month in which it was admitted; what has passed is not corrected any more.
local function settle_budgets(name)
  local state = redis.call("GET", name)
  if not state then
    return
  end
  local day, day_tokens, day_money, month, month_tokens, month_money = struct.unpack("<dddddd", state)
  local admitted_day = floor(admitted_ms / DAY_MS)
  if day == admitted_day then
    day_tokens, day_money = day_tokens + used - reserved, day_money + money_used - money_reserved
  end
  if month == month_of(admitted_day) then
    month_tokens, month_money = month_tokens + used - reserved, month_money + money_used - money_reserved
  end
  write_budgets(name, day, month, day_tokens, day_money, month_tokens, month_money)
end

local names = 1
settle_buckets(KEYS[1], key_rpm, key_tpm, key_burst)
if tenant_rpm > 0 then
  names = 2
  settle_buckets(KEYS[2], tenant_rpm, tenant_tpm, tenant_burst)
end
for index = names + 1, names + leases do
  redis.call("ZREM", KEYS[index], ARGV[3])
end
for index = names + leases + 1, #KEYS do
  settle_budgets(KEYS[index])
end
