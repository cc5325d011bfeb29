//! Generated spellings of calls: each is refused, or has no effect.

use super::{analyzed, planted, traces};
use crate::installed::servers;
use countersign::catalog::allowlist::{self, Purpose};
use countersign::catalog::bind::bind_names;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

const CASES: usize = 250;

/// Calls that would leave a trace: plain, in column notation, by a cast, by an operator, by a view or table.
fn call() -> impl Strategy<Value = String> {
    let sequence = prop::sample::select(vec![
        "'public.alarm'::regclass",
        "CAST('public.alarm' AS regclass)",
        "to_regclass('public.alarm')",
        "(ARRAY['public.alarm'::regclass])[1]",
        "(SELECT 'public.alarm'::regclass)",
    ]);
    let name = prop::sample::select(vec!["nextval", "NextVal", "\"nextval\"", "/* a */ nextval"]);
    let notation = (sequence, name).prop_map(|(sequence, name)| format!("({sequence}).{name}"));
    let typed = prop::sample::select(vec!["'x'", "'x'::text", "'{x}'", "NULL", "lower('X')", "'(x)'"]);
    let target = prop::sample::select(vec![
        "public.evil_domain",
        "public.evil_domain[]",
        "public.\"evil_domain\"",
        "public.evil_nested",
        "public.evil_row",
        "public.evil_row[]",
    ]);
    let cast = (typed, target).prop_map(|(value, target)| format!("({value}::{target} IS NULL)::int"));
    let other = prop::sample::select(vec![
        "('a' OPERATOR(public.@@@) 'b')::int",
        "(SELECT count(*) FROM public.evil_view)",
        "(SELECT count(*) FROM public.evil_outer_view AS v WHERE v.a <> '')",
        "(SELECT count(g.nextval) FROM to_regclass('public.alarm') AS g)",
        "(SELECT count(*) FROM public.evil_policy)",
        "(SELECT count(*) FROM public.evil_arrays WHERE a = '{x}')",
        "(SELECT count(*) FROM public.evil_arrays WHERE a IS DISTINCT FROM '{x}')",
        "('sad'::public.mood)::int",
        "nextval('public.alarm')",
        "pg_catalog.\"nextval\"('public.alarm')",
        "length(public.evil('x'))",
        "length(query_to_xml('SELECT nextval(''public.alarm'')', true, true, '')::text)",
        "(SELECT count(*) FROM ts_stat('SELECT to_tsvector(''simple'', public.evil(''x''))'))",
        "(4711::int8).pg_try_advisory_lock::int",
        "(SELECT count(g.pg_try_advisory_lock) FROM abs(4711::int8) AS g)",
    ]);
    prop_oneof![notation, cast, other.prop_map(str::to_owned)]
}

/// An expression with the call somewhere inside.
fn expression() -> impl Strategy<Value = String> {
    call().prop_recursive(3, 12, 2, |inner| {
        let shapes = prop::sample::select(vec![
            "coalesce({}, 1)",
            "CASE WHEN {} > 0 THEN 1 ELSE 2 END",
            "(ARRAY[{}, 2])[1]",
            "(SELECT {})",
            "greatest(1, {})",
            "(1 + {})",
            "(CASE {} WHEN 1 THEN 1 END)",
            "(SELECT max(v.x) FROM (VALUES ({})) AS v (x))",
            "({} IN (1, 2))::int",
            "(ROW({}, 1) < ROW(1, 2))::int",
        ]);
        (shapes, inner).prop_map(|(shape, inner)| shape.replace("{}", &inner))
    })
}

fn statement() -> impl Strategy<Value = String> {
    let places = prop::sample::select(vec![
        "SELECT {} AS a",
        "SELECT 1 AS a WHERE {} > 0",
        "SELECT 1 AS a ORDER BY {}",
        "SELECT 1 AS a LIMIT ({})",
        "SELECT count(*) FROM pg_class GROUP BY {}",
        "SELECT count(*) FROM pg_class HAVING {} > 0",
        "SELECT count(*) OVER (ORDER BY {}) FROM pg_class",
        "SELECT count(*) FILTER (WHERE {} > 0) FROM pg_class",
        "WITH c AS (SELECT {} AS a) SELECT a FROM c",
        "SELECT l.a FROM pg_class, LATERAL (SELECT {} AS a) AS l",
        "SELECT 1 AS a FROM pg_class AS b JOIN pg_class AS c ON {} > 0",
        "SELECT 1 AS a UNION ALL SELECT {}",
    ]);
    (places, expression()).prop_map(|(place, expression)| place.replace("{}", &expression))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_generated_call_is_refused_and_leaves_no_trace() {
    let (world, superuser) = planted(servers().pop().unwrap()).await;
    let mut runner = TestRunner::default();
    let mut overlooked = 0;
    for _ in 0..CASES {
        let sql = statement().new_tree(&mut runner).unwrap().current();
        let accepted = allowlist::check(&sql, &bind_names(&sql).unwrap(), Purpose::Read).is_ok();
        overlooked += usize::from(accepted);
        let found = analyzed(&world, &sql).await;
        assert!(found.is_err(), "passes: {sql}");
        assert_eq!(traces(&superuser).await, [""; 0], "{sql}: {found:?}");
    }
    assert!(overlooked > CASES / 10, "{overlooked}: the words alone don't tell");
}
