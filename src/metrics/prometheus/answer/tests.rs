use super::*;
use proptest::prelude::*;

const ADDRESS: &str = "http://prometheus:9090";

fn answer(status: u16, body: &str) -> Answer {
    parse(ADDRESS, StatusCode::from_u16(status).unwrap(), body.as_bytes())
}

fn data(kind: &str, result: &str) -> Answer {
    answer(
        200,
        &format!(r#"{{"status":"success","data":{{"resultType":"{kind}","result":{result}}},"warnings":["x"]}}"#),
    )
}

fn vector(number: &str) -> Answer {
    data("vector", &format!(r#"[{{"metric":{{"pod":"a"}},"value":[1700000000.781,"{number}"]}}]"#))
}

fn sentence(answer: Answer) -> String {
    answer.unwrap_err().to_string()
}

#[test]
fn one_finite_number_is_an_answer() {
    assert_eq!(vector("99.5"), Ok(99.5));
    assert_eq!(vector("0"), Ok(0.0));
    assert_eq!(vector("1.2e-07"), Ok(1.2e-7));
    assert_eq!(vector("-3"), Ok(-3.0));
    assert_eq!(data("scalar", r#"[1700000000, "7"]"#), Ok(7.0));
}

#[test]
fn what_is_not_a_number_says_so() {
    assert_eq!(data("vector", "[]"), Err(Unknown::NoSamples));
    assert_eq!(vector("NaN"), Err(Unknown::NotANumber));
    assert_eq!(vector("+Inf"), Err(Unknown::Infinite("+Inf".into())));
    assert_eq!(vector("-Inf"), Err(Unknown::Infinite("-Inf".into())));
    assert_eq!(data("scalar", r#"[1, "NaN"]"#), Err(Unknown::NotANumber));
}

#[test]
fn several_series_are_counted() {
    let one = r#"{"metric":{},"value":[1,"2"]}"#;
    assert_eq!(data("vector", &format!("[{one},{one},{one}]")), Err(Unknown::ManySeries(3)));
}

#[test]
fn other_types_are_named() {
    let matrix = r#"[{"metric":{},"values":[[1,"2"],[2,"3"]]}]"#;
    assert_eq!(data("matrix", matrix), Err(Unknown::WrongType("range vector".into())));
    assert_eq!(data("matrix", "[]"), Err(Unknown::WrongType("range vector".into())));
    assert_eq!(data("string", r#"[1,"text"]"#), Err(Unknown::WrongType("string".into())));
    let histogram = r#"[{"metric":{},"histogram":[1,{"count":"1","sum":"2","buckets":[]}]}]"#;
    assert_eq!(data("vector", histogram), Err(Unknown::WrongType("histogram".into())));
}

#[test]
fn an_error_of_prometheus_is_passed_on_in_short() {
    let body = r#"{"status":"error","errorType":"bad_data","error":"1:4: parse error:\nunexpected end of input"}"#;
    insta::assert_snapshot!(sentence(answer(400, body)), @"http://prometheus:9090 refused the query: bad_data: 1:4: parse error: unexpected end of input");
    let long = format!(r#"{{"status":"error","errorType":"execution","error":"{}"}}"#, "x".repeat(10_000));
    assert!(sentence(answer(422, &long)).len() < 300);
    let foreign = r#"{"status":"error","errorType":"too_many_requests","error":"slow down"}"#;
    assert!(sentence(answer(429, foreign)).contains("too_many_requests: slow down"));
    let timeout = r#"{"status":"error","errorType":"timeout","error":"query timed out in expression evaluation"}"#;
    insta::assert_snapshot!(sentence(answer(503, timeout)), @"http://prometheus:9090 did not answer within its own time limit for queries");
}

#[test]
fn an_error_status_without_a_prometheus_error_is_refused_with_the_status() {
    insta::assert_snapshot!(sentence(answer(502, "<html>hunter</html>")), @"http://prometheus:9090 refused the query: HTTP 502 Bad Gateway");
    insta::assert_snapshot!(sentence(answer(401, "hunter")), @"http://prometheus:9090 refused the query: HTTP 401 Unauthorized; check the secret that secretRef names");
    insta::assert_snapshot!(sentence(answer(404, "404 page not found")), @"http://prometheus:9090 refused the query: HTTP 404 Not Found; write the address below which /api/v1/query is");
    insta::assert_snapshot!(sentence(answer(301, "")), @"http://prometheus:9090 refused the query: HTTP 301 Moved Permanently; write the address that it redirects to");
    insta::assert_snapshot!(sentence(answer(599, "")), @"http://prometheus:9090 refused the query: HTTP 599");
    let success = r#"{"status":"success","data":{"resultType":"scalar","result":[1,"7"]}}"#;
    assert!(matches!(answer(500, success), Err(Unknown::Refused(..))));
}

#[test]
fn what_is_no_query_result_is_garbled_and_not_repeated() {
    for body in [
        "",
        "<html>hunter</html>",
        "{",
        "null",
        r#""hunter""#,
        r#"{"status":"hunter"}"#,
        r#"{"status":"success"}"#,
        r#"{"status":"success","data":"hunter"}"#,
        r#"{"status":"success","data":{"resultType":"hunter","result":[]}}"#,
        r#"{"status":"success","data":{"resultType":"vector","result":"hunter"}}"#,
        r#"{"status":"success","data":{"resultType":"vector","result":[{"metric":{},"value":[1,"hunter"]}]}}"#,
        r#"{"status":"success","data":{"resultType":"vector","result":[{"metric":{},"value":[1,2]}]}}"#,
        r#"{"status":"success","data":{"resultType":"scalar","result":[]}}"#,
        r#"{"status":"error"}"#,
    ] {
        let answer = answer(200, body);
        assert!(matches!(answer, Err(Unknown::Garbled(..))), "{body}: {answer:?}");
        assert!(!sentence(answer).contains("hunter"), "{body}");
    }
    insta::assert_snapshot!(sentence(answer(200, "<html>")), @"http://prometheus:9090 answered with something that is not a query result: it is not JSON");
}

fn json() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        any::<i64>().prop_map(serde_json::Value::from),
        "(success|error|vector|scalar|NaN|[ -~]{0,5})".prop_map(serde_json::Value::from),
        Just(serde_json::Value::Null),
    ];
    let key = "(status|data|resultType|result|value|metric|errorType|error|histogram)";
    leaf.prop_recursive(5, 40, 5, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(serde_json::Value::from),
            proptest::collection::btree_map(key, inner, 0..5)
                .prop_map(|map| serde_json::Value::from(serde_json::Map::from_iter(map))),
        ]
    })
}

proptest! {
    #[test]
    fn no_body_panics_and_no_answer_is_infinite(status in 100_u16..=999, body in any::<Vec<u8>>()) {
        let answer = parse(ADDRESS, StatusCode::from_u16(status).unwrap(), &body);
        prop_assert!(answer.is_err() || answer.is_ok_and(f64::is_finite));
    }

    #[test]
    fn no_json_panics(body in json()) {
        let answer = parse(ADDRESS, StatusCode::OK, body.to_string().as_bytes());
        prop_assert!(answer.is_err() || answer.is_ok_and(f64::is_finite));
    }

    #[test]
    fn every_finite_number_survives(number in proptest::num::f64::NORMAL) {
        prop_assert_eq!(vector(&number.to_string()), Ok(number));
    }
}

#[test]
fn what_was_sent_is_not_passed_on() {
    let secrets = ["Bearer hunter2hunter2".to_owned(), "hunter2hunter2".to_owned(), "Bearer".to_owned()];
    let said = |error: &str| {
        let body = serde_json::json!({"status": "error", "errorType": "bad_auth", "error": error}).to_string();
        parse_hiding(&secrets, ADDRESS, StatusCode::UNAUTHORIZED, body.as_bytes()).unwrap_err().to_string()
    };
    assert!(said("no tenant for Bearer hunter2hunter2").ends_with("bad_auth: no tenant for …"));
    // Not a part of it either, where the message is cut.
    let cut = said(&format!("{} hunter2hunter2", "x".repeat(180)));
    assert!(!cut.contains("hun"), "{cut}");
}
