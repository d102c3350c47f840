# An example for AWS: buckets, the keys of those who use them, and the database. Roles of the database are made by `sampan init`.

terraform {
  required_version = ">= 1.9"
  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = "~> 6.0"
    }
  }
}

locals {
  # Landing keeps every version; the lake can be written again from raw.
  buckets = { drop = false, landing = true, reports = false, lake = false }
}

resource "aws_s3_bucket" "platform" {
  for_each = local.buckets
  bucket   = "${var.name}-${each.key}"
}

resource "aws_s3_bucket_versioning" "landing" {
  for_each = { for bucket, versions in local.buckets : bucket => versions if versions }
  bucket   = aws_s3_bucket.platform[each.key].id

  versioning_configuration {
    status = "Enabled"
  }
}

resource "aws_s3_bucket_public_access_block" "platform" {
  for_each                = local.buckets
  bucket                  = aws_s3_bucket.platform[each.key].id
  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

resource "aws_s3_bucket_server_side_encryption_configuration" "platform" {
  for_each = local.buckets
  bucket   = aws_s3_bucket.platform[each.key].id

  rule {
    apply_server_side_encryption_by_default {
      sse_algorithm = "aws:kms"
    }
  }
}

# One user per purpose, with the policy that `sampan contracts policy` prints. Make its keys where they are kept, not here: they
# would be in the state of Terraform.
resource "aws_iam_user" "platform" {
  for_each = toset(var.users)
  name     = "${var.name}-${each.key}"
}

resource "aws_iam_user_policy" "platform" {
  for_each = toset(var.users)
  name     = "sampan"
  user     = aws_iam_user.platform[each.key].name
  policy   = file("${var.policies}/${each.key}.json")
}

resource "aws_db_parameter_group" "warehouse" {
  name   = "${var.name}-warehouse"
  family = "postgres18"

  parameter {
    name  = "rds.force_ssl"
    value = "1"
  }

  # An error quotes the value that it is about, which may be personal data.
  parameter {
    name  = "log_min_error_statement"
    value = "panic"
  }

  parameter {
    name  = "log_error_verbosity"
    value = "terse"
  }
}

resource "aws_db_instance" "warehouse" {
  identifier                  = "${var.name}-warehouse"
  engine                      = "postgres"
  engine_version              = "18"
  instance_class              = var.instance_class
  allocated_storage           = var.storage_gib
  storage_encrypted           = true
  db_name                     = "sampan"
  username                    = "sampan_admin"
  manage_master_user_password = true
  parameter_group_name        = aws_db_parameter_group.warehouse.name
  db_subnet_group_name        = var.subnet_group
  vpc_security_group_ids      = var.security_groups
  publicly_accessible         = false
  backup_retention_period     = var.backup_days
  deletion_protection         = true
  skip_final_snapshot         = false
  final_snapshot_identifier   = "${var.name}-warehouse-last"
}
