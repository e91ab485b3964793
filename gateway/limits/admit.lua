-- Admits a request to the limits of its key and its tenant, and looks for a kept answer, in one round trip.
-- A request that is refused takes nothing. One that is answered from the cache costs a request, and nothing else.
--
-- KEYS     buckets of the key; then, where there are any: buckets of the tenant, concurrency leases of the key and of
--          the tenant, budgets of the key and of the tenant; at last, where ARGV[5] says so, the kept answer
-- ARGV[1]  limits, packed doubles: requests and tokens a minute and burst of the key, of the tenant (0: none). Where
--          leases or budgets are set, eleven more (0: none): a lease's length in ms; concurrency of the key, of the
--          tenant; and tokens a day, money a day, tokens a month, money a month of the key, of the tenant
-- ARGV[2]  tokens to reserve   ARGV[3] money to reserve   ARGV[4] the lease's id   ARGV[5] "1": the last key is an answer
-- Returns  {which limit refused (0: none), ms until its bucket has room, now in ms, requests and tokens left of the key,
--          of the tenant, the kept answer or false}
-- Limits are numbered for the key: 1 requests, 2 tokens, 3 concurrency, 4 tokens a day, 5 money a day, 6 tokens a
-- month, 7 money a month; and from 8 to 14 for the tenant.

local key_rpm, key_tpm, key_burst, tenant_rpm, tenant_tpm, tenant_burst = struct.unpack("<dddddd", ARGV[1])
local cached = ARGV[5] == "1" and redis.call("GET", KEYS[#KEYS])
local cost = cached and 0 or tonumber(ARGV[2])

local requests, tokens, most, this_minute, last_minute = read_buckets(KEYS[1], key_rpm, key_tpm, key_burst)
local t_requests, t_tokens, t_most, t_this_minute, t_last_minute = 0, 0, 0, 0, 0
local names = 1
if tenant_rpm > 0 then
  names = 2
  t_requests, t_tokens, t_most, t_this_minute, t_last_minute = read_buckets(KEYS[2], tenant_rpm, tenant_tpm, tenant_burst)
end

local key_cost, tenant_cost = min(cost, key_tpm * key_burst), min(cost, tenant_tpm * tenant_burst)
local refused_by, wait_ms = 0, 0
if requests < 1 then
  refused_by, wait_ms = 1, (1 - requests) * MINUTE_MS / key_rpm
elseif tokens < key_cost then
  refused_by, wait_ms = 2, (key_cost - tokens) * MINUTE_MS / key_tpm
elseif tenant_rpm > 0 and t_requests < 1 then
  refused_by, wait_ms = 8, (1 - t_requests) * MINUTE_MS / tenant_rpm
elseif tenant_rpm > 0 and t_tokens < tenant_cost then
  refused_by, wait_ms = 9, (tenant_cost - t_tokens) * MINUTE_MS / tenant_tpm
end

-- Changes of leases and budgets wait here until nothing more can refuse the request.
local leases, charges
if refused_by == 0 and cost > 0 and #ARGV[1] > 48 then
  local limits = { struct.unpack("<ddddddddddd", ARGV[1], 49) }
  local lease_ms, money = limits[1], tonumber(ARGV[3])

  for owner = 0, 1 do
    local limit = limits[2 + owner]
    if limit > 0 and refused_by == 0 then
      names = names + 1
      redis.call("ZREMRANGEBYSCORE", KEYS[names], "-inf", now_ms)
      if redis.call("ZCARD", KEYS[names]) >= limit then
        refused_by = 3 + 7 * owner
      else
        leases = leases or {}
        leases[#leases + 1] = KEYS[names]
      end
    end
  end

  local day = floor(now_ms / DAY_MS)
  local month
  for owner = 0, 1 do
    local at = 4 + 4 * owner
    local day_tokens, day_money, month_tokens, month_money = unpack(limits, at, at + 3)
    if day_tokens + day_money + month_tokens + month_money > 0 and refused_by == 0 then
      names = names + 1
      month = month or month_of(day)
      local dt, dm, mt, mm = read_budgets(KEYS[names], day, month)
      dt, dm, mt, mm = dt + cost, dm + money, mt + cost, mm + money
      if day_tokens > 0 and dt > day_tokens then
        refused_by = 4 + 7 * owner
      elseif day_money > 0 and dm > day_money then
        refused_by = 5 + 7 * owner
      elseif month_tokens > 0 and mt > month_tokens then
        refused_by = 6 + 7 * owner
      elseif month_money > 0 and mm > month_money then
        refused_by = 7 + 7 * owner
      end
      charges = charges or {}
      charges[#charges + 1] = { KEYS[names], day, month, dt, dm, mt, mm }
    end
  end

  if refused_by == 0 then
    for _, name in ipairs(leases or {}) do
      redis.call("ZADD", name, now_ms + lease_ms, ARGV[4])
      redis.call("PEXPIRE", name, lease_ms)
    end
    for _, charge in ipairs(charges or {}) do
      write_budgets(unpack(charge))
    end
  end
end

if refused_by == 0 then
  requests, tokens, this_minute = requests - 1, tokens - key_cost, this_minute + key_cost
  write_buckets(KEYS[1], key_tpm, requests, tokens, most, this_minute, last_minute)
  if tenant_rpm > 0 then
    t_requests, t_tokens, t_this_minute = t_requests - 1, t_tokens - tenant_cost, t_this_minute + tenant_cost
    write_buckets(KEYS[2], tenant_tpm, t_requests, t_tokens, t_most, t_this_minute, t_last_minute)
  end
end

return { refused_by, wait_ms, now_ms, floor(requests), floor(tokens), floor(t_requests), floor(t_tokens),
  refused_by == 0 and cached }
