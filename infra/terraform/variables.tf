variable "name" {
  description = "Begins the name of everything: letters, digits and hyphens, unique among all buckets of AWS."
  type        = string
}

variable "users" {
  description = "Who gets keys of the object store: loader, reporter, analyst, and each partner by its name in expectations/partners."
  type        = list(string)
  default     = ["loader", "reporter", "analyst"]
}

variable "policies" {
  description = "Folder with the policy of each user, <user>.json, as `sampan contracts policy <user>` prints it."
  type        = string
  default     = "policies"
}

variable "instance_class" {
  description = "Size of the database server."
  type        = string
  default     = "db.m7g.large"
}

variable "storage_gib" {
  description = "Disk of the database server in GiB: see docs/growth.md for what a row takes."
  type        = number
  default     = 200
}

variable "backup_days" {
  description = "Days back that a moment can be restored from. What retention deletes is in backups that long."
  type        = number
  default     = 35
}

variable "subnet_group" {
  description = "Subnet group of the database, in a network without a way in from outside."
  type        = string
}

variable "security_groups" {
  description = "Security groups that let Airflow's components and readers in."
  type        = list(string)
}
