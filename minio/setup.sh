#!/bin/sh
# Creates the bucket and its users with minimal policies. A second run changes nothing.
set -eu

password() {
  cat "/run/secrets/$1-password"
}

# An environment variable of this process only: arguments are visible in the process table.
MC_HOST_store="http://root:$(password root)@minio:9000"
export MC_HOST_store

policy() {
  # policy NAME ACTIONS-ON-OBJECTS: the policy of the user NAME; includes listing the bucket.
  cat <<END
{
  "Version": "2012-10-17",
  "Statement": [
    {
      "Effect": "Allow",
      "Action": ["s3:ListBucket", "s3:GetBucketLocation", "s3:ListBucketMultipartUploads"],
      "Resource": ["arn:aws:s3:::$BUCKET"]
    },
    {"Effect": "Allow", "Action": [$2], "Resource": ["arn:aws:s3:::$BUCKET/*"]}
  ]
}
END
}

user() {
  policy "$1" "$2" >"/tmp/$1.json"
  mc --quiet admin policy create store "$1" "/tmp/$1.json"
  printf '%s\n%s\n' "$1" "$(password "$1")" | mc --quiet admin user add store
  mc --quiet admin policy attach store "$1" --user "$1" 2>/dev/null ||
    mc --quiet admin user info store "$1" | grep -q "$1"
}

mc --quiet mb --ignore-existing "store/$BUCKET"
uploads='"s3:PutObject", "s3:AbortMultipartUpload", "s3:ListMultipartUploadParts"'
user replica "\"s3:GetObject\", \"s3:DeleteObject\", $uploads"
user coordinator "\"s3:GetObject\", \"s3:DeleteObject\", $uploads"
echo "the bucket $BUCKET and its users exist"
