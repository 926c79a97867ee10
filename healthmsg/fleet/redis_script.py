"""What Redis does for a shared limit: one script, which is one step for all who ask.

All moments are the server's own, in microseconds; what comes and goes are durations. A slot is a member of a
sorted set, by the moment at which it comes back at the latest. Who waits stands in another one, by lane and
then by turn: a grant is refused as long as the slots that come back first are for those in front. A place in
that queue ends by itself soon after its worker was to ask again.

A slot that comes back soon is granted in advance, with the delay until then, so that the way to the server
costs no time between two calls.
"""

from typing import Final

SCRIPT: Final = """
local META, SLOTS, QUEUE, PLACES, WORKERS = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local worker, random, stepped = ARGV[1], ARGV[2], ARGV[3]
local calls, interval = tonumber(ARGV[4]), tonumber(ARGV[5])
local hold, horizon = tonumber(ARGV[6]), tonumber(ARGV[7])
local quarantine, life = tonumber(ARGV[8]), tonumber(ARGV[9])
local pause, asked = tonumber(ARGV[10]), tonumber(ARGV[11])
local wanted = {tonumber(ARGV[12]), tonumber(ARGV[13]), tonumber(ARGV[14])}

local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
-- Not every user may ask for it: then, that another server has taken its place is not seen.
local info = redis.pcall('INFO', 'server')
local run = type(info) == 'string' and string.match(info, 'run_id:(%w+)') or 'unknown'
local meta = redis.call('HMGET', META, 'run', 'last', 'next', 'closed', 'pause', 'asked', 'turn', 'terms')
local last, next_at, closed = tonumber(meta[2] or 0), tonumber(meta[3] or 0), tonumber(meta[4] or 0)
local paused, asked_until, turn = tonumber(meta[5] or 0), tonumber(meta[6] or 0), tonumber(meta[7] or 0)
local terms = calls .. '/' .. ARGV[15]
local is_other = meta[8] and meta[8] ~= terms
-- A second more than has passed for who asks: then it was set forward, and all looks free, and all look gone.
local passed, seen = tonumber(ARGV[16]), redis.call('ZSCORE', WORKERS, worker)
local has_leapt = seen and passed >= 0 and now - tonumber(seen) > 1.01 * passed + 1000000
-- Who asks for the first time cannot tell.
if seen or is_other then redis.call('ZREMRANGEBYSCORE', WORKERS, '-inf', now - 10000000) end
if is_other and redis.call('ZCARD', WORKERS) > 0 and meta[1] == run then return {'terms'} end

-- The memory was lost, another server has taken its place, or its clock was set: what is under way is
-- not known.
local is_new = meta[1] ~= run or is_other or stepped == '1' or has_leapt or now < last - 5000
if is_new then
  redis.call('DEL', SLOTS, QUEUE, PLACES, WORKERS)
  next_at, closed, paused, asked_until = now, now + quarantine, 0, 0
  seen = false
end
local elapsed = -1
if seen then elapsed = now - tonumber(seen) end
redis.call('ZADD', WORKERS, now, worker)
if pause > 0 then paused = math.max(paused, now + pause) end
if asked > 0 then asked_until = math.max(asked_until, now + asked) end

-- What came back: when, in how many microseconds; 0: unused; less: a call that this script knows nothing of.
for n = 17, #ARGV, 2 do
  local id, left = ARGV[n], tonumber(ARGV[n + 1])
  if left < 0 then
    redis.call('ZADD', SLOTS, now - left, id)
  else
    local due = redis.call('ZSCORE', SLOTS, id)
    if due then
      local back = now + left
      -- Granted in advance, it was another's until then.
      if left == 0 then back = math.max(now, tonumber(string.match(id, '%d+$'))) end
      redis.call('ZADD', SLOTS, math.min(tonumber(due), back), id)
    end
  end
end
redis.call('ZREMRANGEBYSCORE', SLOTS, '-inf', now)
for _, place in ipairs(redis.call('ZRANGEBYSCORE', PLACES, '-inf', now)) do
  redis.call('ZREM', QUEUE, place)
end
redis.call('ZREMRANGEBYSCORE', PLACES, '-inf', now)

local free = calls - redis.call('ZCARD', SLOTS)
local function nth(rank)
  if rank < free then return now, nil end
  local found = redis.call('ZRANGE', SLOTS, math.max(0, rank - free), math.max(0, rank - free), 'WITHSCORES')
  if not found[1] then return now + 1000000, nil end
  return tonumber(found[2]), found[1]
end

local grants, wait = {}, 0
local opens = math.max(closed, paused)
for lane = 1, 3 do
  local place = worker .. ':' .. lane
  local left = wanted[lane]
  while left > 0 do
    if not redis.call('ZSCORE', QUEUE, place) then
      turn = turn + 1
      redis.call('ZADD', QUEUE, lane * 1e14 + turn, place)
    end
    local rank = redis.call('ZRANK', QUEUE, place)
    local back, of = nth(rank)
    local at = math.max(back, next_at + rank * interval, now)
    if opens > at or at - now > horizon then
      local until_then = math.max(1000, math.max(at, opens) - horizon - now)
      if wait == 0 or until_then < wait then wait = until_then end
      redis.call('ZADD', PLACES, now + until_then + life, place)
      break
    end
    if of then redis.call('ZREM', SLOTS, of) else free = free - 1 end
    turn = turn + 1
    local id = worker .. ':' .. turn .. ':' .. string.format('%.0f', at)
    redis.call('ZADD', SLOTS, at + hold, id)
    grants[#grants + 1] = id
    grants[#grants + 1] = at - now
    next_at = math.max(next_at, at + interval - rank * interval)
    left = left - 1
    redis.call('ZREM', QUEUE, place)
  end
  if left == 0 then
    redis.call('ZREM', QUEUE, place)
    redis.call('ZREM', PLACES, place)
  end
end

redis.call('HSET', META, 'run', run, 'last', string.format('%.0f', now),
  'next', string.format('%.0f', next_at),
  'closed', string.format('%.0f', closed), 'pause', string.format('%.0f', paused),
  'asked', string.format('%.0f', asked_until), 'turn', turn, 'terms', terms)
local answer = {'ok', math.ceil(wait), math.max(0, paused - now), math.max(0, asked_until - now), elapsed,
  redis.call('ZCARD', WORKERS), math.max(0, closed - now), is_new and 1 or 0}
for _, value in ipairs(grants) do answer[#answer + 1] = value end
return answer
"""
