-- Health of the kinds of toolhive.stacklok.dev, for Argo CD: one script for all of them (docs/gitops.md says how to install it).
--
-- Argo CD runs this with the object in `obj` and takes the returned table. Only Lua's base and table libraries are there.

-- Read where something refers to them: without a controller of their own they have no status, and nothing to wait for.
local plain = {
  MCPToolConfig = true,
  MCPOIDCConfig = true,
  MCPTelemetryConfig = true,
  MCPAuthzConfig = true,
  VirtualMCPCompositeToolDefinition = true,
}

local function health(status, message)
  local hs = {}
  hs.status = status
  hs.message = message or ""
  return hs
end

if obj.metadata.deletionTimestamp ~= nil then
  return health("Progressing", "Being deleted")
end

local status = obj.status or {}
local conditions = {}
for _, condition in ipairs(status.conditions or {}) do
  conditions[condition.type] = condition
end
local ready = conditions["Ready"] or conditions["Valid"]

if ready == nil then
  if plain[obj.kind] then
    return health("Healthy", "Checked where it is used")
  end
  return health("Progressing", "No controller has reported on it yet")
end

-- A status about an older spec says nothing about this one.
if status.observedGeneration ~= nil and status.observedGeneration ~= obj.metadata.generation then
  return health("Progressing", "The change was not looked at yet")
end

local stalled = conditions["Stalled"]
if stalled ~= nil and stalled.status == "True" then
  return health("Degraded", stalled.reason .. ": " .. (stalled.message or ""))
end

if ready.status == "True" then
  return health("Healthy", ready.message)
end

local why = (ready.reason or ready.type) .. ": " .. (ready.message or "")
if status.phase == "Failed" or status.phase == "Degraded" or (plain[obj.kind] and ready.status == "False") then
  return health("Degraded", why)
end
if status.phase == "Stopped" then
  return health("Suspended", why)
end
return health("Progressing", why)
