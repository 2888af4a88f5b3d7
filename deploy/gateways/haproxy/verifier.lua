-- Asks the verifier about one request. In haproxy.cfg: http-request lua.verifier http://127.0.0.1:8001/forward-auth
--
-- An allow sets txn.verifier_allowed and the identity headers; whatever else happens answers the client here.

local TIMEOUT = 3000 -- milliseconds; the backend that the question goes to gives up sooner
local IDENTITY = {
    "X-Auth-Subject",
    "X-Auth-Issuer",
    "X-Auth-Client-Id",
    "X-Auth-Scope",
    "X-Auth-Expires",
    "X-Auth-Omitted",
}
local PASSED_ON = { "WWW-Authenticate", "Retry-After", "Content-Type", "Cache-Control", "X-Request-Id" }
local DENIALS = { [400] = true, [401] = true, [403] = true, [431] = true, [503] = true }

-- HAProxy counts the values of a header from 0 in a request, and takes and gives them from 1 in its client.
local function copied(values)
    local list = {}
    for i = 0, #values do
        if values[i] ~= nil then
            list[#list + 1] = values[i]
        end
    end
    return list
end

local function refuse(txn, status, answer)
    local reply = txn:reply({ status = status })
    if answer ~= nil then
        for _, name in ipairs(PASSED_ON) do
            for _, value in ipairs(copied(answer.headers[name:lower()] or {})) do
                reply:add_header(name, value)
            end
        end
        reply:set_body(answer.body or "")
    end
    txn:done(reply)
end

core.register_action("verifier", { "http-req" }, function(txn, address)
    local from = txn.http:req_get_headers()
    for _, values in pairs(from) do
        for _, value in ipairs(copied(values)) do
            if value:find("\0", 1, true) then -- where some applications take a value to end
                return refuse(txn, 400, nil)
            end
        end
    end
    local headers = {
        ["x-forwarded-method"] = { txn.sf:method() },
        ["x-forwarded-proto"] = { txn.f:ssl_fc() == 1 and "https" or "http" },
        ["x-forwarded-host"] = { txn.sf:req_fhdr("host") }, -- whole, also where there is a comma in it
        ["x-forwarded-uri"] = { txn.sf:url() },
        ["x-forwarded-for"] = { txn.sf:src() },
    }
    for _, name in ipairs({ "authorization", "x-request-id", "traceparent", "origin", "access-control-request-method" }) do
        if from[name] ~= nil then
            headers[name] = copied(from[name])
        end
    end
    local answer = core.httpclient():get({ url = address, headers = headers, timeout = TIMEOUT })
    if answer ~= nil and answer.status == 200 then
        for _, name in ipairs(IDENTITY) do
            local values = copied(answer.headers[name:lower()] or {})
            txn.http:req_set_header(name, values[1] or "")
            if txn.f:req_fhdr(name, -1) ~= (values[1] or "") then -- there was no room left for it
                return refuse(txn, 431, nil)
            end
        end
        txn:set_var("txn.verifier_allowed", true)
    elseif answer ~= nil and DENIALS[answer.status] then
        refuse(txn, answer.status, answer)
    else
        refuse(txn, 503, nil)
    end
end, 1)
