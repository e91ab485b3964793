-- What an owner, a key or a tenant, has used of its budgets. Stands before admit.lua and settle.lua.
--
-- State, six packed doubles, whole numbers all of them and exact up to 2^53:
--   day, tokens of the day, money of the day, month, tokens of the month, money of the month
-- Days count from 1970 in UTC. Money is in billionths of the currency's unit.

local DAY_MS = 86400000

-- Months count from March of the year 0 (Hinnant, "chrono-Compatible Low-Level Date Algorithms", civil_from_days).
local function month_of(day)
  local shifted = day + 719468
  local era = floor(shifted / 146097)
  local day_of_era = shifted - era * 146097
  local year = floor((day_of_era - floor(day_of_era / 1460) + floor(day_of_era / 36524) - floor(day_of_era / 146096)) / 365)
  local day_of_year = day_of_era - (365 * year + floor(year / 4) - floor(year / 100))
  return (era * 400 + year) * 12 + floor((5 * day_of_year + 2) / 153)
end

local function read_budgets(name, day, month)
  local state = redis.call("GET", name)
  if not state then
    return 0, 0, 0, 0
  end
  local of_day, day_tokens, day_money, of_month, month_tokens, month_money = struct.unpack("<dddddd", state)
  if of_day ~= day then
    day_tokens, day_money = 0, 0
  end
  if of_month ~= month then
    month_tokens, month_money = 0, 0
  end
  return day_tokens, day_money, month_tokens, month_money
end

local function write_budgets(name, day, month, day_tokens, day_money, month_tokens, month_money)
  redis.call("SET", name, struct.pack("<dddddd", day, day_tokens, day_money, month, month_tokens, month_money),
    "PX", "2764800000") -- 32 days
end
