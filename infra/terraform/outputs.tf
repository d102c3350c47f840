output "buckets" {
  description = "SAMPAN_DROP_BUCKET, SAMPAN_LANDING_BUCKET, SAMPAN_REPORT_BUCKET, SAMPAN_LAKE_BUCKET."
  value       = { for bucket, made in aws_s3_bucket.platform : bucket => made.bucket }
}

output "warehouse" {
  description = "SAMPAN_WAREHOUSE_DSN without a login, as tasks take it."
  value       = "host=${aws_db_instance.warehouse.address} port=${aws_db_instance.warehouse.port} dbname=sampan sslmode=verify-full"
}

output "admin_password" {
  description = "The secret with the password of sampan_admin, which only `sampan init` needs."
  value       = aws_db_instance.warehouse.master_user_secret[0].secret_arn
}
