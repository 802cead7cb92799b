-- Expressions that are asked for like logged metrics. An empty expression: removed.
CREATE TABLE custom_metrics
(
    project     String,
    name        String,
    expression  String,
    description String,
    created_at  DateTime64(6, 'UTC'),
    updated_at  DateTime64(6, 'UTC')
)
ENGINE = ReplacingMergeTree(updated_at)
ORDER BY (project, name);
