# A WebSocket API. $connect is asked about, and what comes later on the connection is not.

resource "aws_apigatewayv2_api" "websocket" {
  name                       = "${var.name}-websocket"
  protocol_type              = "WEBSOCKET"
  route_selection_expression = "$request.body.action"
}

resource "aws_apigatewayv2_authorizer" "websocket" {
  api_id          = aws_apigatewayv2_api.websocket.id
  name            = "Verifier"
  authorizer_type = "REQUEST"
  authorizer_uri  = aws_lambda_function.authorizer.invoke_arn
  # A browser cannot send headers along: for it, this is route.request.querystring.token, and token_query: token in the
  # verifier's aws.
  identity_sources = ["route.request.header.Authorization"]
}

resource "aws_lambda_permission" "websocket" {
  statement_id  = "websocket"
  action        = "lambda:InvokeFunction"
  function_name = aws_lambda_function.authorizer.function_name
  principal     = "apigateway.amazonaws.com"
  source_arn    = "${aws_apigatewayv2_api.websocket.execution_arn}/authorizers/${aws_apigatewayv2_authorizer.websocket.id}"
}

# An example that is protected.

resource "aws_apigatewayv2_integration" "websocket" {
  api_id                        = aws_apigatewayv2_api.websocket.id
  integration_type              = "MOCK"
  template_selection_expression = "\\$default"
  request_templates             = { "$default" = "{\"statusCode\": 200}" }
}

resource "aws_apigatewayv2_route" "websocket" {
  api_id             = aws_apigatewayv2_api.websocket.id
  route_key          = "$connect"
  authorization_type = "CUSTOM"
  authorizer_id      = aws_apigatewayv2_authorizer.websocket.id
  target             = "integrations/${aws_apigatewayv2_integration.websocket.id}"
}

resource "aws_apigatewayv2_stage" "websocket" {
  api_id      = aws_apigatewayv2_api.websocket.id
  name        = "v1"
  auto_deploy = true
}

output "websocket_url" {
  value = aws_apigatewayv2_stage.websocket.invoke_url
}
