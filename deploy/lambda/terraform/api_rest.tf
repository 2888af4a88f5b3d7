# Two REST APIs: one hands over the token (TOKEN), one the request (REQUEST). Delete the line of the one that you do not need.

locals {
  rest = {
    # What RFC 6750 calls a bearer token. Whatever else is sent is 401 without a question.
    TOKEN = { validation = "^[Bb][Ee][Aa][Rr][Ee][Rr] +[-0-9A-Za-z._~+/]+=*$", cached_by = [] }
    # Validation expressions are for TOKEN alone. With method and path, cached answers are right whatever the routes are.
    REQUEST = { validation = null, cached_by = ["context.httpMethod", "context.path"] }
  }

  # API Gateway answers these by itself, without the backend's CORS headers: a page could not read them.
  refusals = {
    UNAUTHORIZED = { status = "401", headers = { WWW-Authenticate = "'Bearer'" }, body = null }
    # An explicit Deny, or no Allow.
    ACCESS_DENIED = {
      status  = "403"
      headers = {}
      body    = "{\"message\": $context.error.messageString, \"reason\": \"$context.authorizer.verifier_reason\"}"
    }
    DEFAULT_4XX = { status = null, headers = {}, body = null }
    # The verifier cannot decide, or cannot be reached.
    DEFAULT_5XX = { status = null, headers = {}, body = null }
  }

  rest_refusals = {
    for pair in setproduct(keys(local.rest), keys(local.refusals)) :
    join("_", pair) => merge(local.refusals[pair[1]], { api = pair[0], response_type = pair[1] })
  }

  cors_headers = {
    Access-Control-Allow-Origin  = "'${var.cors_origin}'"
    Access-Control-Allow-Methods = "'GET,POST,OPTIONS'"
    Access-Control-Allow-Headers = "'Content-Type,X-Amz-Date,Authorization,X-Api-Key,X-Amz-Security-Token'"
    Access-Control-Max-Age       = "'600'"
  }
}

resource "aws_api_gateway_rest_api" "rest" {
  for_each = local.rest
  name     = "${var.name}-${lower(each.key)}"
}

resource "aws_api_gateway_authorizer" "rest" {
  for_each                         = local.rest
  rest_api_id                      = aws_api_gateway_rest_api.rest[each.key].id
  name                             = "Verifier"
  type                             = each.key
  authorizer_uri                   = aws_lambda_function.authorizer.invoke_arn
  identity_source                  = join(",", concat(["method.request.header.Authorization"], each.value.cached_by))
  identity_validation_expression   = each.value.validation
  authorizer_result_ttl_in_seconds = var.result_ttl
}

resource "aws_lambda_permission" "rest" {
  for_each      = local.rest
  statement_id  = "rest-${lower(each.key)}"
  action        = "lambda:InvokeFunction"
  function_name = aws_lambda_function.authorizer.function_name
  principal     = "apigateway.amazonaws.com"
  source_arn    = "${aws_api_gateway_rest_api.rest[each.key].execution_arn}/authorizers/*"
}

resource "aws_api_gateway_gateway_response" "rest" {
  for_each      = local.rest_refusals
  rest_api_id   = aws_api_gateway_rest_api.rest[each.value.api].id
  response_type = each.value.response_type
  status_code   = each.value.status
  response_parameters = {
    for header, value in merge({ Access-Control-Allow-Origin = "'${var.cors_origin}'" }, each.value.headers) :
    "gatewayresponse.header.${header}" => value
  }
  response_templates = each.value.body == null ? null : { "application/json" = each.value.body }
}

# An example that is protected.

resource "aws_api_gateway_resource" "hello" {
  for_each    = local.rest
  rest_api_id = aws_api_gateway_rest_api.rest[each.key].id
  parent_id   = aws_api_gateway_rest_api.rest[each.key].root_resource_id
  path_part   = "hello"
}

resource "aws_api_gateway_method" "hello" {
  for_each      = local.rest
  rest_api_id   = aws_api_gateway_rest_api.rest[each.key].id
  resource_id   = aws_api_gateway_resource.hello[each.key].id
  http_method   = "GET"
  authorization = "CUSTOM"
  authorizer_id = aws_api_gateway_authorizer.rest[each.key].id
}

resource "aws_api_gateway_integration" "hello" {
  for_each          = local.rest
  rest_api_id       = aws_api_gateway_rest_api.rest[each.key].id
  resource_id       = aws_api_gateway_resource.hello[each.key].id
  http_method       = aws_api_gateway_method.hello[each.key].http_method
  type              = "MOCK"
  request_templates = { "application/json" = "{\"statusCode\": 200}" }
}

resource "aws_api_gateway_method_response" "hello" {
  for_each            = local.rest
  rest_api_id         = aws_api_gateway_rest_api.rest[each.key].id
  resource_id         = aws_api_gateway_resource.hello[each.key].id
  http_method         = aws_api_gateway_method.hello[each.key].http_method
  status_code         = "200"
  response_parameters = { "method.response.header.Access-Control-Allow-Origin" = true }
}

resource "aws_api_gateway_integration_response" "hello" {
  for_each            = local.rest
  rest_api_id         = aws_api_gateway_rest_api.rest[each.key].id
  resource_id         = aws_api_gateway_resource.hello[each.key].id
  http_method         = aws_api_gateway_integration.hello[each.key].http_method
  status_code         = aws_api_gateway_method_response.hello[each.key].status_code
  response_parameters = { "method.response.header.Access-Control-Allow-Origin" = "'${var.cors_origin}'" }
  response_templates = {
    "application/json" = "{\"hello\": \"$util.escapeJavaScript($context.authorizer.principalId)\"}"
  }
}

# Preflights carry no token, so nobody is asked about them.

resource "aws_api_gateway_method" "preflight" {
  for_each      = local.rest
  rest_api_id   = aws_api_gateway_rest_api.rest[each.key].id
  resource_id   = aws_api_gateway_resource.hello[each.key].id
  http_method   = "OPTIONS"
  authorization = "NONE"
}

resource "aws_api_gateway_integration" "preflight" {
  for_each          = local.rest
  rest_api_id       = aws_api_gateway_rest_api.rest[each.key].id
  resource_id       = aws_api_gateway_resource.hello[each.key].id
  http_method       = aws_api_gateway_method.preflight[each.key].http_method
  type              = "MOCK"
  request_templates = { "application/json" = "{\"statusCode\": 200}" }
}

resource "aws_api_gateway_method_response" "preflight" {
  for_each            = local.rest
  rest_api_id         = aws_api_gateway_rest_api.rest[each.key].id
  resource_id         = aws_api_gateway_resource.hello[each.key].id
  http_method         = aws_api_gateway_method.preflight[each.key].http_method
  status_code         = "200"
  response_parameters = { for header in keys(local.cors_headers) : "method.response.header.${header}" => true }
}

resource "aws_api_gateway_integration_response" "preflight" {
  for_each            = local.rest
  rest_api_id         = aws_api_gateway_rest_api.rest[each.key].id
  resource_id         = aws_api_gateway_resource.hello[each.key].id
  http_method         = aws_api_gateway_integration.preflight[each.key].http_method
  status_code         = aws_api_gateway_method_response.preflight[each.key].status_code
  response_parameters = { for header, value in local.cors_headers : "method.response.header.${header}" => value }
}

resource "aws_api_gateway_deployment" "rest" {
  for_each    = local.rest
  rest_api_id = aws_api_gateway_rest_api.rest[each.key].id

  # A deployment is a copy of what was there: what is changed later is served only after another one. Methods of other files
  # belong into both lists.
  triggers = {
    redeployment = sha1(jsonencode([filesha1("${path.module}/api_rest.tf"), var.cors_origin, var.result_ttl]))
  }
  depends_on = [
    aws_api_gateway_gateway_response.rest,
    aws_api_gateway_integration_response.hello,
    aws_api_gateway_integration_response.preflight,
  ]

  lifecycle {
    create_before_destroy = true
  }
}

resource "aws_api_gateway_stage" "rest" {
  for_each      = local.rest
  rest_api_id   = aws_api_gateway_rest_api.rest[each.key].id
  deployment_id = aws_api_gateway_deployment.rest[each.key].id
  stage_name    = "v1"
}

output "rest_urls" {
  value = { for kind, stage in aws_api_gateway_stage.rest : kind => "${stage.invoke_url}/hello" }
}
