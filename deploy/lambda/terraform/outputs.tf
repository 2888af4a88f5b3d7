# The addresses of the APIs are in their files.

output "authorizer_arn" {
  description = "For authorizers of APIs that are described elsewhere"
  value       = aws_lambda_function.authorizer.arn
}
