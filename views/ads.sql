-- Application layer: what a dashboard reads.

CREATE MATERIALIZED VIEW IF NOT EXISTS ads_city
  COMMENT 'a line a city: sold, received, and how much is still to come'
  INTO warehouse.ads_city AS
WITH sold AS (
  SELECT city, SUM(items) AS items, SUM(revenue) AS revenue FROM dws_city_day GROUP BY city
)
SELECT s.city, s.items, s.revenue, r.payments, r.received, s.revenue - r.received AS outstanding
FROM sold s
LEFT JOIN dws_city_payments r ON r.city = s.city;

CREATE MATERIALIZED VIEW IF NOT EXISTS ads_category
  COMMENT 'a line a category with more than 100 items sold'
  INTO warehouse.ads_category AS
SELECT category, SUM(items) AS items, SUM(revenue) AS revenue, MAX(revenue) AS best_product_revenue
FROM dws_product
GROUP BY category
HAVING SUM(items) > 100;
