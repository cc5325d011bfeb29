SELECT max(version) FROM asset_versions WHERE "assetId" = md5('asset' || $1)::uuid::text
