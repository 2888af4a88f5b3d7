# The authorizer function. Each API that asks it is in a file of its own: delete the files that you do not need.
# docs/aws.md explains.

data "aws_partition" "current" {}

data "aws_secretsmanager_secret_version" "verifier" {
  count     = var.verifier_secret == null ? 0 : 1
  secret_id = var.verifier_secret
}

locals {
  environment = {
    VERIFIER_URL         = var.verifier_url
    VERIFIER_TIMEOUT     = tostring(var.verifier_timeout)
    VERIFIER_SECRET      = one(data.aws_secretsmanager_secret_version.verifier[*].secret_string)
    VERIFIER_CA          = var.verifier_ca
    VERIFIER_CLIENT_CERT = var.verifier_client_cert
    VERIFIER_CLIENT_KEY  = var.verifier_client_key
  }
  managed_policies = "arn:${data.aws_partition.current.partition}:iam::aws:policy/service-role"
}

resource "aws_lambda_function" "authorizer" {
  function_name    = "${var.name}-authorizer"
  description      = "Hands authorizer events to the verifier, and its answers back"
  filename         = var.package
  source_code_hash = filebase64sha256(var.package)
  handler          = "authorizer.handler"
  runtime          = "python3.13"
  architectures    = ["arm64"]
  memory_size      = 256 # the share of a processor grows with it, and TLS wants some
  timeout          = 8   # below the 10 seconds of API Gateway, above verifier_timeout
  role             = aws_iam_role.authorizer.arn
  layers           = var.certificates_layer == null ? [] : [var.certificates_layer]

  environment {
    variables = { for name, value in local.environment : name => value if value != null }
  }

  logging_config {
    log_format = "Text"
    log_group  = aws_cloudwatch_log_group.authorizer.name
  }

  dynamic "vpc_config" {
    for_each = length(var.subnet_ids) == 0 ? [] : [true]
    content {
      subnet_ids         = var.subnet_ids
      security_group_ids = var.security_group_ids
    }
  }

  depends_on = [aws_iam_role_policy_attachment.authorizer]
}

resource "aws_cloudwatch_log_group" "authorizer" {
  name              = "/aws/lambda/${var.name}-authorizer"
  retention_in_days = var.log_retention_days
}

resource "aws_iam_role" "authorizer" {
  name_prefix        = "${var.name}-authorizer-"
  assume_role_policy = local.assumed_by_lambda
}

resource "aws_iam_role_policy_attachment" "authorizer" {
  role = aws_iam_role.authorizer.name
  policy_arn = join("/", [
    local.managed_policies,
    length(var.subnet_ids) == 0 ? "AWSLambdaBasicExecutionRole" : "AWSLambdaVPCAccessExecutionRole",
  ])
}

locals {
  assumed_by_lambda = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Action    = "sts:AssumeRole"
      Principal = { Service = "lambda.amazonaws.com" }
    }]
  })
}
