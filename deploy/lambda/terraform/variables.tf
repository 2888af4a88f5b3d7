variable "name" {
  description = "What the function and the APIs are called"
  type        = string
  default     = "verifier"
}

variable "package" {
  description = "The zip that `make lambda-zip` makes"
  type        = string
  default     = "../../../dist/authorizer.zip"
}

variable "verifier_url" {
  description = "Where the verifier's data port is, such as https://verifier.internal:8443; the path /aws/authorizer is added"
  type        = string

  validation {
    condition     = can(regex("^https://[^/]+", var.verifier_url))
    error_message = "This must begin with https://, as tokens and the secret go there, and a host."
  }
}

variable "verifier_timeout" {
  description = "Seconds that a question may take in all. The function has 8 and API Gateway waits 10, so 6 leave time to say so"
  type        = number
  default     = 4

  validation {
    condition     = var.verifier_timeout >= 1 && var.verifier_timeout <= 6
    error_message = "This must be from 1 to 6."
  }
}

variable "verifier_secret" {
  description = "Name or ARN of the secret in Secrets Manager whose text the verifier knows this caller by (callers of its configuration). Its text is in the state, too. Null, where nobody has to show one"
  type        = string
  default     = null
}

variable "subnet_ids" {
  description = "Private subnets from which the verifier can be reached. Empty, where it can be reached from outside of any VPC"
  type        = list(string)
  default     = []
}

variable "security_group_ids" {
  description = "Security groups of the function. They need no inbound rule, and an outbound one to the verifier's port"
  type        = list(string)
  default     = []
}

variable "log_retention_days" {
  type    = number
  default = 30

  validation {
    condition     = contains([1, 3, 5, 7, 14, 30, 60, 90, 180, 365], var.log_retention_days)
    error_message = "CloudWatch knows 1, 3, 5, 7, 14, 30, 60, 90, 180 and 365 days."
  }
}

variable "certificates_layer" {
  description = "ARN of a layer version with PEM files, which are below /opt then. Who may read the layer can read a private key in it"
  type        = string
  default     = null
}

variable "verifier_ca" {
  description = "Path of the authorities to trust instead of the system's, such as /opt/verifier-ca.pem"
  type        = string
  default     = null
}

variable "verifier_client_cert" {
  description = "Path of the certificate to show, where the verifier has tls.client_ca_file"
  type        = string
  default     = null
}

variable "verifier_client_key" {
  description = "Path of its key"
  type        = string
  default     = null
}

variable "result_ttl" {
  description = "Seconds for which API Gateway goes on with an answer without asking. An expiry and a revocation come late by as much. 0 asks about every request; 60 is enough for clients that call often; 300 (API Gateway's own default) and more only where revocations are not used"
  type        = number
  default     = 60

  validation {
    condition     = var.result_ttl >= 0 && var.result_ttl <= 3600
    error_message = "This must be from 0 to 3600."
  }
}

variable "cors_origin" {
  description = "The origin whose pages may call the APIs, such as https://app.acme.example; * for all"
  type        = string
  default     = "*"
}
