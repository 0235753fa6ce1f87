-- Which reason did the service give? Its ErrorInfo lies in grpc-status-details-bin, base64 of a google.rpc.Status; the
-- reason becomes a header of its own, for the access log and for callers who cannot read protobuf. Runs only where an
-- answer begins with its status or was given before; see filters.py.
local REASON, DETAILS, REPLAYED = "x-danbao-reason", "grpc-status-details-bin", "x-danbao-replayed"
local ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
local VALUES = {}
for position = 1, #ALPHABET do
  VALUES[ALPHABET:byte(position)] = position - 1
end

-- What the service's gRPC library answered by itself: code, a part of its message, and what callers are told instead.
local ANSWERS = {--[[answers]]}

local function decoded(text)
  local bytes, bits, held = {}, 0, 0
  for position = 1, #text do
    local value = VALUES[text:byte(position)]
    if value == nil then
      break
    end
    held, bits = held * 64 + value, bits + 6
    if bits >= 8 then
      bits = bits - 8
      local unit = 2 ^ bits
      bytes[#bytes + 1] = string.char(math.floor(held / unit))
      held = held % unit
    end
  end
  return table.concat(bytes)
end

local function reason_in(details)
  -- ErrorInfo's reason is its field 1, behind the Any's value (field 2) and its length of one or two bytes.
  local content = decoded(details)
  local _, ends = content:find("google.rpc.ErrorInfo\018", 1, true)
  if ends == nil then
    return nil
  end
  local start = content:byte(ends + 1) >= 128 and ends + 3 or ends + 2
  local length = content:byte(start + 1)
  if content:byte(start) ~= 10 or length == nil then
    return nil
  end
  local reason = content:sub(start + 2, start + 1 + length)
  return reason:match("^[A-Z0-9_]+$")
end

local function answer_for_the_library(headers, code)
  local message = headers:get("grpc-message") or ""
  for _, answer in ipairs(ANSWERS) do
    if answer[1] == code and message:find(answer[2], 1, true) ~= nil then
      headers:replace("grpc-status", answer[3])
      headers:replace(REASON, answer[4])
      headers:replace("grpc-message", answer[5])
      headers:replace(DETAILS, answer[6])
      return
    end
  end
end

function envoy_on_response(handle)
  local headers = handle:headers()
  if headers:get(REASON) ~= nil then
    return
  end
  local details, target = headers:get(DETAILS), headers
  if details == nil then
    local code = headers:get("grpc-status")
    if code ~= nil and code ~= "0" then
      answer_for_the_library(headers, code)
      return
    end
  end
  if details == nil and headers:get(REPLAYED) ~= nil then
    -- The header went ahead of a recorded refusal, so the refusal itself comes in the trailers.
    target = handle:trailers()
    details = target and target:get(DETAILS)
  end
  local reason = details and reason_in(details)
  if reason ~= nil then
    target:add(REASON, reason)
  end
end
